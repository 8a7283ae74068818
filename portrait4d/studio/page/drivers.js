// What drives the head: the webcam, one stamped picture in flight, or a clip that plays.

const SIDE_PX = 512, QUALITY = 0.85;

export class Camera {
  #video = document.getElementById("driver-video");
  #canvas = document.createElement("canvas");
  #stream = null;
  #isBusy = false;
  #starting = null;
  #callback = null;

  get isOn() {
    return this.#stream !== null;
  }

  /** Asks for the camera; who asks again while the browser still does waits for the same one. */
  start() {
    this.#starting ??= this.#open().finally(() => (this.#starting = null));
    return this.#starting;
  }

  async #open() {
    if (!navigator.mediaDevices) throw new Error("browsers give it to pages of localhost or https only");
    const video = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    try {
      this.#video.srcObject = this.#stream;
      await this.#video.play();
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = null;
    this.#video.srcObject = null;
  }

  /** Calls back with each new picture of the camera, as long as it is on and nobody else asks for them. */
  eachPicture(callback) {
    const next = () => {
      if (!this.isOn || this.#callback !== callback) return;
      callback();
      this.#video.requestVideoFrameCallback(next);
    };
    this.#callback = callback;
    this.#video.requestVideoFrameCallback(next);
  }

  /** The present picture as a file, as large as the camera gives it. */
  async photo() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.#video.videoWidth, this.#video.videoHeight];
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    return new File([blob], "photo.jpg", { type: "image/jpeg" });
  }

  /** Sends the present picture, stamped, unless one is being encoded. */
  async send(link, isMirrored) {
    if (this.#isBusy || !this.#video.videoWidth) return;
    this.#isBusy = true;
    link.isFree = false;
    try {
      const stamp = performance.now();
      const scale = Math.min(1, SIDE_PX / this.#video.videoHeight);
      this.#canvas.width = Math.round(this.#video.videoWidth * scale);
      this.#canvas.height = Math.round(this.#video.videoHeight * scale);
      const context = this.#canvas.getContext("2d");
      context.setTransform(isMirrored ? -1 : 1, 0, 0, 1, isMirrored ? this.#canvas.width : 0, 0);
      context.drawImage(this.#video, 0, 0, this.#canvas.width, this.#canvas.height);
      const blob = await new Promise((done) => this.#canvas.toBlob(done, "image/jpeg", QUALITY));
      await link.sendPicture(stamp, blob);
    } finally {
      this.#isBusy = false;
    }
  }
}

export class Clip {
  #video = document.getElementById("driver-video");
  #address = null;
  #begun = 0;
  #canPlay = false;

  constructor() {
    this.numFrames = 0;
    this.frameRate = 25;
    this.isPlaying = false;
  }

  get isLoaded() {
    return this.numFrames > 0;
  }

  /** Takes a loaded clip; `file` is null for a motion file, which has no pictures. */
  load(file, { num_frames, frame_rate }) {
    this.stop();
    this.numFrames = num_frames;
    this.frameRate = frame_rate;
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = file ? URL.createObjectURL(file) : null;
  }

  /** Plays the clip with its sound, or, where the browser cannot show it, its motion alone. */
  async play() {
    this.#begun = performance.now();
    this.isPlaying = true;
    this.#canPlay = false;
    if (!this.#address) return;
    this.#video.srcObject = null;
    this.#video.src = this.#address;
    this.#video.loop = true;
    this.#video.muted = false;
    try {
      await this.#video.play();
      this.#canPlay = true;
    } catch {
      this.#canPlay = false;
    }
  }

  stop() {
    if (this.isPlaying) this.#video.pause();
    if (this.isPlaying) this.#video.removeAttribute("src");
    this.isPlaying = false;
  }

  get hasPictures() {
    return this.#canPlay;
  }

  /** The frame to draw; what was not followed of a long clip is not played either. */
  get index() {
    if (this.#canPlay && this.#video.currentTime >= this.numFrames / this.frameRate) this.#video.currentTime = 0;
    const seconds = this.#canPlay ? this.#video.currentTime : (performance.now() - this.#begun) / 1000;
    return Math.floor(seconds * this.frameRate) % this.numFrames;
  }
}
