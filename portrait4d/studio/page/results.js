// What is written of the head: a menu of kinds, what moves it, and the files to download.

const MOVING = ["mp4", "webm", "gif", "webp"], HOLDS_OPACITY = ["webm", "webp", "png"], NUM_FILES = 6;

/** What is said of a kind below the menu. */
const HINTS = {
  mp4: "Plays everywhere; a clip keeps its sound.", webm: "For web pages; can be transparent; a clip keeps its sound.",
  gif: "Plays in every chat, but is large: 256 colours a frame.", webp: "An animated picture for web pages; can be transparent.",
  png: "What you see now.", motion: "What moves the head, for any other photo.",
  avatar: "The head itself, to open again without the photo.",
  mesh: "The front of the head in the photo's expression.",
  head: "Closed at the back, with 52 ARKit morph targets and joints, for Blender, game engines and three.js.",
};

const $ = (id) => document.getElementById(id);

export class Results {
  #has = { hand: true, keys: false, clip: false };

  constructor(link) {
    this.name = "";
    this.link = link;
    $("what").onchange = $("of").onchange = $("transparent").onchange = () => this.#arrange();
    this.#arrange();
  }

  get wanted() {
    const is = (id) => $(id).checked && !$(id).disabled;
    const [what, of] = [$("what").value, $("of").disabled ? "hand" : $("of").value];
    const size = $("size").disabled || !$("size").value ? null : Number($("size").value);
    return { what, of, size, transparent: is("transparent"), side_by_side: is("side-by-side"), name: this.name };
  }

  /** Takes note of what there is to write; what comes newly is chosen. */
  offer(has) {
    for (const [kind, isThere] of Object.entries(has)) {
      if (isThere && !this.#has[kind]) $("of").value = kind;
      if (!isThere && $("of").value === kind) $("of").value = this.#has.clip && kind !== "clip" ? "clip" : "hand";
      this.#has[kind] = isThere;
    }
    this.#arrange();
  }

  /** Lets only what goes together be chosen. */
  #arrange() {
    const what = $("what").value, isMoving = MOVING.includes(what);
    for (const option of $("of").options) option.disabled = !this.#has[option.value];
    $("of").querySelector("[value=hand]").textContent = isMoving ? "the head, turning once" : "the present pose";
    $("of").disabled = !isMoving && what !== "motion";
    $("size").disabled = !isMoving;
    for (const id of ["of", "size"]) $(id).parentElement.hidden = $(id).disabled;
    $("transparent").disabled = !HOLDS_OPACITY.includes(what);
    const isCut = $("transparent").checked && !$("transparent").disabled;
    $("side-by-side").disabled = !isMoving || $("of").value !== "clip" || isCut;
    $("what-hint").textContent = HINTS[what];
  }

  add({ name, num_bytes }) {
    const item = document.createElement("li"), anchor = document.createElement("a");
    const size = num_bytes < 1e5 ? `${Math.ceil(num_bytes / 1e3)} kB` : `${(num_bytes / 1e6).toFixed(1)} MB`;
    anchor.href = this.link.fileAddress(name);
    anchor.download = name;
    anchor.textContent = `${name} (${size})`;
    item.append(anchor);
    if (/\.(mp4|webm)$/.test(name)) {
      const video = document.createElement("video");
      Object.assign(video, { src: anchor.href, controls: true, loop: true, playsInline: true, ariaLabel: name });
      item.append(video);
    } else if (/\.(gif|webp|png)$/.test(name)) {
      const image = document.createElement("img");
      Object.assign(image, { src: anchor.href, alt: name });
      item.append(image);
    }
    $("files").prepend(item);
    while ($("files").children.length > NUM_FILES) $("files").lastChild.remove();
  }
}
