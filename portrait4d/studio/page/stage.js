// The head on its canvas: frames as they come, turning by mouse, touch and keys, and the choice among faces.

const DEGREES_PER_WIDTH = 90, STEP_DEGREES = 3;

export class Stage {
  #canvas = document.getElementById("head");
  #context = this.#canvas.getContext("2d");
  #newest = 0;

  constructor(sliders) {
    let last = null;
    this.#canvas.onpointerdown = (event) => {
      last = event;
      this.#canvas.setPointerCapture(event.pointerId);
    };
    this.#canvas.onpointermove = (event) => {
      if (!last || last.pointerId !== event.pointerId) return;
      const scale = DEGREES_PER_WIDTH / this.#canvas.clientWidth;
      const yaw = Math.round((event.clientX - last.clientX) * scale);
      const pitch = Math.round((last.clientY - event.clientY) * scale);
      if (!yaw && !pitch) return;
      sliders.turn(yaw, pitch);
      last = event;
    };
    this.#canvas.onpointerup = this.#canvas.onpointercancel = () => (last = null);
    this.#canvas.onkeydown = (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (steps) sliders.turn(steps[0] * STEP_DEGREES, steps[1] * STEP_DEGREES);
      else if (event.key === "0") sliders.set({ yaw: 0, pitch: 0, roll: 0 });
      else return;
      event.preventDefault();
    };
  }

  /** Draws a frame unless a newer one is there; resolves to whether it was shown. */
  async show({ stamp, jpeg }) {
    const picture = await createImageBitmap(jpeg);
    if (stamp < this.#newest) return false;
    this.#newest = stamp;
    if (this.#canvas.width !== picture.width) this.#canvas.width = this.#canvas.height = picture.width;
    this.#context.drawImage(picture, 0, 0);
    picture.close();
    return true;
  }

  /** Lets the person choose among faces of a photo: boxes as shares of its sides. */
  choose(boxes, file, chosen) {
    const place = document.getElementById("faces");
    const hint = document.createElement("p");
    const frame = document.createElement("div");
    const image = document.createElement("img");
    hint.textContent = "Several faces: click the one you mean.";
    frame.className = "picture";
    image.alt = "The photo";
    image.src = URL.createObjectURL(file);
    image.onload = () => {
      URL.revokeObjectURL(image.src);
      const isWide = image.naturalWidth > image.naturalHeight;
      frame.style[isWide ? "width" : "height"] = "100%";
      frame.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
    };
    frame.append(image);
    boxes.forEach(([x0, y0, x1, y1], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = index + 1;
      button.setAttribute("aria-label", `Face ${index + 1}`);
      const percent = (value) => `${100 * value}%`;
      Object.assign(button.style, { left: percent(x0), top: percent(y0), width: percent(x1 - x0), height: percent(y1 - y0) });
      button.onclick = () => {
        place.hidden = true;
        chosen(index);
      };
      frame.append(button);
    });
    place.replaceChildren(hint, frame);
    place.hidden = false;
    frame.querySelector("button").focus();
  }
}
