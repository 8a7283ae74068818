// The line of keyframes: poses of the sliders at times, moved by mouse, touch and keys. What lies between is the server's.

const RATE = 25, STEP_SECONDS = 1 / RATE, LONG_STEP_SECONDS = 10 / RATE; // keyframes lie on frames of what is written
const LONGEST_SECONDS = 60, MOST_KEYS = 60; // as the server has them
const MARGIN_PX = 8; // on both sides of the lane: half of a slider's knob, so that keyframes stand above it

/** A little scene for who has no keyframes yet: seconds, pose. */
const EXAMPLE = [
  [0, {}],
  [0.8, { yaw: -14, roll: 4, "gaze-x": 0.4, browInnerUp: 0.5 }],
  [1.6, { yaw: 6, pitch: 4, mouthSmileLeft: 0.8, mouthSmileRight: 0.8, cheekSquintLeft: 0.4, cheekSquintRight: 0.4 }],
  [2.2, { yaw: 10, pitch: -4, mouthSmileLeft: 0.9, mouthSmileRight: 0.6, eyeBlinkLeft: 1 }],
  [2.8, { yaw: 4, jawOpen: 0.4, browInnerUp: 0.8, eyeWideLeft: 0.6, eyeWideRight: 0.6 }],
  [3.6, {}],
];

const $ = (id) => document.getElementById(id);
const nearest = (seconds) => Math.round(seconds * RATE) / RATE;

/**
 * Events: "change" when keyframes or length change, "seek" when the shown moment changes by hand, "play" when playing
 * is begun or ended.
 */
export class KeyLine extends EventTarget {
  #sliders;
  #keys = []; // { seconds, pose, marker }, in order of time
  #selected = null;
  #begun = 0;
  #time = $("line-time");
  #lane = $("line-lane");

  constructor(sliders) {
    super();
    this.#sliders = sliders;
    this.isPlaying = false;
    this.#time.oninput = () => this.#seek(Number(this.#time.value));
    $("line-add").onclick = () => this.add();
    $("line-remove").onclick = () => this.#remove(this.#selected);
    $("line-clear").onclick = () => this.#clear();
    $("line-example").onclick = () => this.#showExample();
    $("line-play").onclick = () => this.play(!this.isPlaying);
    $("line-length").onchange = () => this.#resize();
    this.#lane.ondblclick = (event) => {
      if (event.target !== this.#lane) return;
      this.#showTime(nearest(this.#secondsAt(event.clientX)));
      this.add();
    };
    this.#resize();
  }

  get length() {
    return Number(this.#time.max);
  }

  get isEmpty() {
    return this.#keys.length === 0;
  }

  /** The moment that is shown, seconds. */
  get seconds() {
    if (!this.isPlaying) return Number(this.#time.value);
    return ((performance.now() - this.#begun) / 1000) % this.length;
  }

  /** What the server is told. */
  get state() {
    const keys = this.#keys.map(({ seconds, pose }) => ({ seconds, ...pose }));
    return { duration: this.length, keys };
  }

  /** Shows where playing is. */
  tick() {
    if (this.isPlaying) this.#showTime(this.seconds);
  }

  play(isOn) {
    if (isOn && this.isEmpty) return;
    if (isOn) {
      this.#select(null);
      const from = this.seconds >= this.length - STEP_SECONDS ? 0 : this.seconds;
      this.#begun = performance.now() - 1000 * from;
    } else if (this.isPlaying) this.#showTime(this.seconds);
    const isChanged = isOn !== this.isPlaying;
    this.isPlaying = isOn;
    $("line-play").setAttribute("aria-pressed", String(isOn));
    $("line-play").textContent = isOn ? "Pause" : "Play";
    if (isChanged) this.#tell("play");
  }

  /** Puts the sliders as they are at the present moment; a keyframe that is there is set anew. */
  add() {
    const seconds = nearest(this.seconds);
    this.play(false);
    let key = this.#keyAt(seconds);
    if (!key && this.#keys.length >= MOST_KEYS) return;
    if (key) key.pose = this.#sliders.state;
    else key = this.#insert(seconds, this.#sliders.state);
    this.#changed();
    this.#select(key);
  }

  /** Keeps what the sliders show in the selected keyframe; returns whether there is one. */
  keep() {
    if (!this.#selected) return false;
    this.#selected.pose = this.#sliders.state;
    this.#describe(this.#selected);
    this.#tell("change");
    return true;
  }

  /** Lets go of the selected keyframe. */
  leave() {
    this.#select(null);
  }

  #insert(seconds, pose) {
    const marker = document.createElement("div");
    const key = { seconds, pose, marker };
    Object.assign(marker, { className: "key", tabIndex: 0, title: "drag to move, Delete removes" });
    marker.setAttribute("role", "slider");
    marker.onfocus = () => this.#select(key);
    marker.onkeydown = (event) => this.#key(event, key);
    marker.onpointerdown = (event) => {
      marker.setPointerCapture(event.pointerId);
      this.#select(key);
    };
    marker.onpointermove = (event) => {
      if (marker.hasPointerCapture(event.pointerId)) this.#move(key, this.#secondsAt(event.clientX));
    };
    this.#lane.append(marker);
    this.#keys.push(key);
    return key;
  }

  #key(event, key) {
    const step = event.shiftKey ? LONG_STEP_SECONDS : STEP_SECONDS;
    const to = {
      ArrowLeft: key.seconds - step, ArrowDown: key.seconds - step, ArrowRight: key.seconds + step,
      ArrowUp: key.seconds + step, PageDown: key.seconds - LONG_STEP_SECONDS, PageUp: key.seconds + LONG_STEP_SECONDS,
      Home: 0, End: this.length,
    }[event.key];
    if (to !== undefined) this.#move(key, to, Math.sign(to - key.seconds));
    else if (event.key === "Delete" || event.key === "Backspace") this.#remove(key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Moves a keyframe; where another one is, it goes past (`direction` ±1) or stays (0). */
  #move(key, seconds, direction = 0) {
    let to = nearest(Math.min(Math.max(seconds, 0), this.length));
    while (direction && this.#keyAt(to) && this.#keyAt(to) !== key) to = nearest(to + direction * STEP_SECONDS);
    if (to < 0 || to > this.length + 1e-6 || Math.abs(to - key.seconds) < 1e-6 || this.#keyAt(to)) return;
    key.seconds = to;
    this.#showTime(to);
    this.#changed();
  }

  #remove(key) {
    if (!key) return;
    const index = this.#keys.indexOf(key), focused = document.activeElement;
    const hadFocus = focused === key.marker || focused === $("line-remove");
    this.#keys.splice(index, 1);
    this.#select(null);
    key.marker.remove();
    if (this.isEmpty) this.play(false);
    this.#changed();
    if (hadFocus) (this.#keys[Math.min(index, this.#keys.length - 1)]?.marker ?? $("line-add")).focus();
  }

  #clear() {
    this.play(false);
    this.#select(null);
    this.#keys.forEach(({ marker }) => marker.remove());
    this.#keys = [];
    this.#changed();
  }

  #showExample() {
    this.#clear();
    $("line-length").value = 4;
    this.#resize();
    for (const [seconds, values] of EXAMPLE) this.#insert(seconds, this.#sliders.stateOf(values));
    this.#changed();
    this.#showTime(0);
    this.play(true);
  }

  /** Takes another length, at least up to the last keyframe. */
  #resize() {
    const last = this.isEmpty ? 0.4 : this.#keys.at(-1).seconds;
    const length = nearest(Math.min(Math.max(Number($("line-length").value) || 4, last), LONGEST_SECONDS));
    $("line-length").value = length;
    this.#time.max = length;
    this.#changed();
    this.#showTime(Math.min(this.seconds, length));
  }

  #select(key) {
    if (key) this.play(false);
    if (key === this.#selected) return;
    this.#selected?.marker.classList.remove("selected");
    this.#selected = key;
    $("line-remove").disabled = !key;
    $("line-hint").textContent = key ? "The sliders now set this keyframe." : this.#hint;
    if (!key) return;
    key.marker.classList.add("selected");
    this.#showTime(key.seconds);
    this.#sliders.showState(key.pose);
    this.#tell("select");
  }

  get #hint() {
    return this.isEmpty ? "Set the sliders, add a keyframe; choose another time, set them anew, add another." : "";
  }

  #seek(seconds) {
    this.play(false);
    const key = this.#keyAt(seconds);
    this.#showTime(seconds);
    if (key) return this.#select(key);
    this.#select(null);
    if (!this.isEmpty) this.#tell("seek");
  }

  #changed() {
    this.#keys.sort((first, second) => first.seconds - second.seconds);
    this.#order();
    this.#keys.forEach((key) => this.#describe(key));
    for (const id of ["line-play", "line-clear"]) $(id).disabled = this.isEmpty;
    $("line-example").hidden = !this.isEmpty;
    $("line-hint").textContent = this.#selected ? "The sliders now set this keyframe." : this.#hint;
    this.#tell("change");
  }

  /** Has the tab key go by time; the selected marker stays where it is, so that it keeps focus and pointer. */
  #order() {
    const held = this.#selected?.marker;
    let isPast = !held;
    for (const { marker } of this.#keys) {
      if (marker === held) isPast = true;
      else if (isPast) this.#lane.append(marker);
      else held.before(marker);
    }
  }

  #describe({ seconds, pose, marker }) {
    const place = this.#keys.findIndex((key) => key.marker === marker) + 1;
    const set = Object.keys(pose.expression).length + ["yaw", "pitch", "roll"].filter((name) => pose[name]).length;
    marker.style.left = `calc(${MARGIN_PX}px + (100% - ${2 * MARGIN_PX}px) * ${seconds / this.length})`;
    marker.setAttribute("aria-label", `Keyframe ${place} of ${this.#keys.length}`);
    marker.setAttribute("aria-valuemin", "0");
    marker.setAttribute("aria-valuemax", this.length.toFixed(2));
    marker.setAttribute("aria-valuenow", seconds.toFixed(2));
    marker.setAttribute("aria-valuetext", `${seconds.toFixed(2)} seconds, ${set || "no"} sliders set`);
  }

  #showTime(seconds) {
    this.#time.value = seconds;
    const text = `${seconds.toFixed(2)} s`;
    $("line-now").value = text;
    this.#time.setAttribute("aria-valuetext", text);
  }

  #isAt(key, seconds) {
    return Math.abs(key.seconds - seconds) < STEP_SECONDS / 2;
  }

  #keyAt(seconds) {
    return this.#keys.find((key) => this.#isAt(key, seconds));
  }

  #secondsAt(clientX) {
    const { left, width } = this.#lane.getBoundingClientRect();
    const share = (clientX - left - MARGIN_PX) / (width - 2 * MARGIN_PX);
    return Math.min(Math.max(share, 0), 1) * this.length;
  }

  #tell(kind) {
    this.dispatchEvent(new Event(kind));
  }
}
