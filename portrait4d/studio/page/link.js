// The socket to the server: stamped requests, one at a time; drawn frames and messages come back.

const STAMP_BYTES = 8, FRAME_BYTES = 16;

export class Link extends EventTarget {
  constructor() {
    super();
    this.session = "";
    this.asked = 0; // stamp of the last frame that was asked for
    this.isFree = false; // whether the server would begin a request at once
    const address = new URL("live", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => (typeof event.data === "string" ? this.#hear(event.data) : this.#see(event.data));
    this.socket.onclose = (event) => this.#tell("closed", { reason: event.reason });
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN && this.session !== "";
  }

  say(kind, values = {}) {
    if (this.isOpen) this.socket.send(JSON.stringify({ kind, ...values }));
  }

  /** Asks for a frame: of a clip by its index, of the keyframes by seconds, or by hand; the next when the server is free. */
  draw({ index = null, seconds = null } = {}) {
    this.isFree = false;
    this.asked = performance.now();
    this.say("draw", { stamp: this.asked, index, seconds });
  }

  async sendPicture(stamp, blob) {
    const jpeg = new Uint8Array(await blob.arrayBuffer());
    const message = new Uint8Array(STAMP_BYTES + jpeg.length);
    new DataView(message.buffer).setFloat64(0, stamp, true);
    message.set(jpeg, STAMP_BYTES);
    if (this.isOpen) this.socket.send(message);
  }

  /** Sends a file; resolves to "" or to why it was refused. */
  async sendFile(kind, file) {
    const address = new URL(`upload/${this.session}/${kind}`, location.href);
    try {
      const answer = await fetch(address, { method: "POST", body: file });
      return answer.ok ? "" : (await answer.json()).error;
    } catch {
      return "the file was not taken: it is too large, or the studio has ended";
    }
  }

  fileAddress(name) {
    return new URL(`result/${this.session}/${encodeURIComponent(name)}`, location.href).href;
  }

  #hear(text) {
    const message = JSON.parse(text);
    if (message.kind === "hello") this.session = message.session;
    if (message.kind === "next" || message.kind === "head") this.isFree = true;
    if (message.kind === "error" && message.work === undefined && message.stamp === undefined) this.isFree = true;
    this.#tell(message.kind, message);
  }

  #see(data) {
    const view = new DataView(data);
    const flags = view.getUint32(8, true);
    const frame = { stamp: view.getFloat64(0, true), isLost: (flags & 1) > 0, isTurned: (flags & 2) > 0 };
    this.#tell("frame", { ...frame, jpeg: new Blob([new Uint8Array(data, FRAME_BYTES)], { type: "image/jpeg" }) });
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
