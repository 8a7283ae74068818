// Sliders of the face, the head and the gaze, and the state they make.

const POSES = [
  ["yaw", "Turn", -40, 40, 1], ["pitch", "Nod", -30, 30, 1], ["roll", "Tilt", -30, 30, 1],
  ["gaze-x", "Look sideways", -1, 1, 0.02], ["gaze-y", "Look up or down", -1, 1, 0.02],
];

const PRESETS = {
  Smile: { mouthSmileLeft: 0.8, mouthSmileRight: 0.8, cheekSquintLeft: 0.4, cheekSquintRight: 0.4 },
  Surprise: { jawOpen: 0.45, browInnerUp: 0.9, browOuterUpLeft: 0.7, browOuterUpRight: 0.7, eyeWideLeft: 0.8, eyeWideRight: 0.8 },
  Anger: { browDownLeft: 1, browDownRight: 1, noseSneerLeft: 0.5, noseSneerRight: 0.5, mouthPressLeft: 0.6, mouthPressRight: 0.6 },
  Sadness: { browInnerUp: 0.9, mouthFrownLeft: 0.9, mouthFrownRight: 0.9, mouthSmileLeft: -0.6, mouthSmileRight: -0.6 },
  Wink: { eyeBlinkLeft: 1, mouthSmileLeft: 0.4 },
  Blink: { eyeBlinkLeft: 1, eyeBlinkRight: 1 },
};

const SIDES = [[/Left$/, "Right"], [/Right$/, "Left"]];

/** "mouthSmileLeft" is shown as "Smile left" in the group "Mouth". */
function titleOf(name, group) {
  const words = name.replace(/([A-Z])/g, " $1").toLowerCase().split(" ");
  const isSaid = words.length > 1 && group.toLowerCase().startsWith(words[0]);
  const text = (isSaid ? words.slice(1) : words).join(" ");
  return text[0].toUpperCase() + text.slice(1);
}

export class Sliders extends EventTarget {
  #inputs = new Map();

  constructor() {
    super();
    const place = document.getElementById("pose-sliders");
    for (const [name, title, min, max, step] of POSES) this.#add(place, name, title, { min, max, step });
    document.getElementById("reset").onclick = () => this.reset();
  }

  /** Makes the sliders of the named expressions, by group. */
  show(groups) {
    const names = Object.values(groups).flat();
    const place = document.getElementById("groups");
    place.replaceChildren();
    for (const [group, members] of Object.entries(groups)) {
      if (!members.length) continue;
      const details = document.createElement("details");
      const summary = document.createElement("summary");
      const grid = document.createElement("div");
      summary.textContent = group;
      grid.className = "sliders";
      details.append(summary, grid);
      place.append(details);
      for (const name of members) this.#add(grid, name, titleOf(name, group), { min: -1, max: 1, step: 0.01 });
    }
    const presets = document.getElementById("presets");
    presets.replaceChildren();
    for (const [title, values] of Object.entries(PRESETS)) {
      if (!Object.keys(values).every((name) => names.includes(name))) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = title;
      button.onclick = () => this.set(values, names);
      presets.append(button);
    }
  }

  /** Sets some values; those of `cleared` that have none become 0. */
  set(values, cleared = []) {
    for (const name of cleared) this.#put(name, values[name] ?? 0);
    for (const [name, value] of Object.entries(values)) this.#put(name, value);
    this.#changed();
  }

  turn(yaw, pitch) {
    this.#put("yaw", this.value("yaw") + yaw);
    this.#put("pitch", this.value("pitch") + pitch);
    this.#changed();
  }

  reset() {
    for (const name of this.#inputs.keys()) this.#put(name, 0);
    this.#changed();
  }

  value(name) {
    return Number(this.#inputs.get(name).input.value);
  }

  /** What the server is told. */
  get state() {
    return this.stateOf(Object.fromEntries([...this.#inputs.keys()].map((name) => [name, this.value(name)])));
  }

  /** The same of values by the names of sliders; names without a slider are left out. */
  stateOf(values) {
    const poses = POSES.map(([name]) => name);
    const isFace = ([name, value]) => value !== 0 && this.#inputs.has(name) && !poses.includes(name);
    const [yaw, pitch, roll, x, y] = poses.map((name) => values[name] ?? 0);
    return { expression: Object.fromEntries(Object.entries(values).filter(isFace)), gaze: [x, y], yaw, pitch, roll };
  }

  /** Shows a state, and tells nobody. */
  showState({ expression, gaze: [x, y], yaw, pitch, roll }) {
    const values = { ...expression, "gaze-x": x, "gaze-y": y, yaw, pitch, roll };
    for (const name of this.#inputs.keys()) this.#put(name, values[name] ?? 0);
  }

  #add(place, name, title, limits) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const output = document.createElement("output");
    Object.assign(input, { type: "range", id: name, value: 0, ...limits });
    input.value = 0;
    label.htmlFor = output.htmlFor = name;
    label.textContent = title;
    label.title = name;
    place.append(label, input, output);
    this.#inputs.set(name, { input, output });
    this.#put(name, 0);
    input.oninput = () => {
      this.#put(name, Number(input.value));
      if (document.getElementById("both").checked) {
        for (const [side, other] of SIDES) {
          if (side.test(name) && !name.startsWith("jaw") && !/^mouth(Left|Right)$/.test(name)) {
            this.#put(name.replace(side, other), Number(input.value));
          }
        }
      }
      this.#changed();
    };
    input.ondblclick = () => { this.#put(name, 0); this.#changed(); };
  }

  #put(name, value) {
    const parts = this.#inputs.get(name);
    if (!parts) return;
    parts.input.value = value;
    const isAngle = Number(parts.input.step) === 1;
    parts.output.value = isAngle ? `${Math.round(parts.input.value)}°` : Number(parts.input.value).toFixed(2);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
