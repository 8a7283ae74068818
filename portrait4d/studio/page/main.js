// The page: wires photo, drivers, sliders and results to the link.

import { Camera, Clip } from "./drivers.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { Sliders } from "./sliders.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const NAMES_OF_WORK = { photo: "Making the head", clip: "Following the clip", motion: "Reading the motion",
  export: "Writing the file", record: "Finishing the recording" };

const link = new Link(), meter = new Meter(), sliders = new Sliders(), camera = new Camera(), clip = new Clip();
const stage = new Stage(sliders);
let photo = null, clipFile = null, hasHead = false, isHandNew = false, recordBegun = 0;
window.studio = { // for tests and the curious
  link, meter, sliders, shown: 0, shownStamp: 0,
  get isIdle() { return !isHandNew && this.shownStamp === link.asked; },
};

function notice(text, kind = "warning") {
  const old = [...$("notices").children].find((item) => item.firstChild.textContent === text);
  old?.remove();
  const item = document.createElement("li"), words = document.createElement("span"), close = document.createElement("button");
  item.className = kind;
  words.textContent = text;
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", "Close this notice");
  close.onclick = () => item.remove();
  item.append(words, close);
  $("notices").prepend(item);
  while ($("notices").children.length > 4) $("notices").lastChild.remove();
}

// --- what is asked of the server -------------------------------------------------------------------------------------

function askAsNeeded() {
  if (hasHead && link.isOpen && link.isFree) {
    if (clip.isPlaying) link.draw(clip.index);
    else if (isHandNew && !camera.isOn) link.draw(null);
    if (!camera.isOn) isHandNew = false;
  }
}

sliders.addEventListener("change", () => {
  link.say("hand", sliders.state);
  isHandNew = true;
  askAsNeeded();
});

function everyFrame() {
  if (clip.isPlaying) askAsNeeded();
  requestAnimationFrame(everyFrame);
}
requestAnimationFrame(everyFrame);

// --- what the server says --------------------------------------------------------------------------------------------

link.addEventListener("hello", ({ detail }) => {
  $("link").textContent = `engine ${detail.engine}`;
  sliders.show(detail.groups);
  $("no-names").hidden = detail.follows_names;
});
link.addEventListener("closed", ({ detail }) => {
  $("link").textContent = `the studio has ended or closed this page: ${detail.reason || "start it again, or load the page again"}`;
  $("link").className = "bad";
  camera.stop();
  clip.stop();
  $("work").hidden = true;
});
link.addEventListener("head", ({ detail }) => {
  hasHead = true;
  meter.clear();
  $("drop").hidden = true;
  $("faces").hidden = true; // those of the photo before
  $("other-photo").hidden = false;
  $("notices").replaceChildren(); // those of the photo before
  detail.warnings.forEach((text) => notice(text));
  if (detail.faces.length > 1 && detail.face === 0 && photo && !photo.isChosen) {
    stage.choose(detail.faces, photo, (index) => {
      photo.isChosen = true;
      if (index !== detail.face) link.say("face", { index });
    });
  }
  isHandNew = true;
  link.say("hand", sliders.state);
  askAsNeeded();
});
link.addEventListener("clip", ({ detail }) => {
  clip.load(detail.is_motion ? null : clipFile, detail);
  detail.warnings.forEach((text) => notice(text));
  $("play").hidden = false;
  if (hasHead) drive("clip");
});
link.addEventListener("next", askAsNeeded);
link.addEventListener("error", ({ detail }) => {
  notice(detail.text, "error");
  if (detail.work) $("work").hidden = true;
  askAsNeeded();
});
link.addEventListener("warning", ({ detail }) => notice(detail.text));
link.addEventListener("progress", ({ detail }) => {
  $("work").hidden = false;
  $("work-name").textContent = NAMES_OF_WORK[detail.work] ?? detail.work;
  if (detail.total) Object.assign($("progress"), { max: detail.total, value: detail.done });
  else $("progress").removeAttribute("value");
});
link.addEventListener("done", ({ detail }) => {
  $("work").hidden = true;
  if (detail.cancelled) notice("cancelled");
});
link.addEventListener("full", () => stopRecording());
link.addEventListener("file", ({ detail }) => {
  const item = document.createElement("li"), anchor = document.createElement("a");
  anchor.href = link.fileAddress(detail.name);
  anchor.download = detail.name;
  anchor.textContent = `${detail.name} (${(detail.num_bytes / 1e6).toFixed(1)} MB)`;
  item.append(anchor);
  if (detail.name.endsWith(".mp4")) {
    const video = document.createElement("video");
    Object.assign(video, { src: anchor.href, controls: true, loop: true, playsInline: true });
    item.append(video);
  }
  $("files").prepend(item);
  while ($("files").children.length > 6) $("files").lastChild.remove();
});
link.addEventListener("frame", async ({ detail }) => {
  if (!(await stage.show(detail))) return;
  meter.add(detail.stamp);
  studio.shown += 1;
  studio.shownStamp = detail.stamp;
  $("lost").hidden = !(detail.isLost || detail.isTurned);
  $("lost").textContent = detail.isLost ? "driver not seen" : "turned beyond the limit";
});

setInterval(() => {
  const rates = meter.rates();
  $("fps").textContent = rates ? rates.fps.toFixed(1) : "–";
  $("p50").textContent = rates ? `${Math.round(rates.p50)} ms` : "–";
  $("p95").textContent = rates ? `${Math.round(rates.p95)} ms` : "–";
  if (recordBegun) $("record-time").textContent = `${Math.round((performance.now() - recordBegun) / 1000)} s`;
}, 500);

// --- photo and drivers -----------------------------------------------------------------------------------------------

function kindOf(file) {
  if (file.name.toLowerCase().endsWith(".npz")) return "motion";
  return file.type.startsWith("video/") || file.type === "image/gif" ? "clip" : "photo";
}

/** Sends a file; what was in its place stays where it is refused. */
async function take(file, kind = kindOf(file)) {
  const [photoBefore, clipBefore] = [photo, clipFile];
  if (kind === "photo") photo = file;
  else clipFile = file;
  const refusal = await link.sendFile(kind, file);
  if (!refusal) return;
  [photo, clipFile] = [photoBefore, clipBefore];
  notice(refusal, "error");
}

for (const id of ["photo", "photo-again", "clip"]) {
  $(id).onchange = () => {
    const [file] = $(id).files;
    if (file) take(file, id === "clip" && kindOf(file) === "photo" ? "clip" : kindOf(file)); // pictures may be moving
    $(id).value = "";
  };
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});

async function drive(by) {
  if (by !== "clip") clip.stop();
  if (by !== "camera") camera.stop();
  meter.clear();
  if (by === "camera" && !camera.isOn) {
    try {
      await camera.start();
    } catch (error) {
      notice(`the webcam cannot be used: ${error.message}`, "error");
      by = "hand";
    }
  }
  if (by === "camera") {
    link.say("new_driver");
    camera.eachPicture(() => {
      if (hasHead && link.isFree) camera.send(link, $("mirror").checked);
    });
  }
  if (by === "clip") await clip.play();
  $("driver-panel").hidden = !(by === "camera" || (by === "clip" && clip.hasPictures));
  $("driver-video").classList.toggle("mirrored", by === "camera" && $("mirror").checked);
  $("camera-controls").hidden = by !== "camera";
  for (const [id, name] of [["by-hand", "hand"], ["by-camera", "camera"], ["play", "clip"]]) {
    $(id).setAttribute("aria-pressed", String(by === name));
  }
  isHandNew = by === "hand";
  $("lost").hidden = true;
  askAsNeeded();
}

$("by-hand").onclick = () => drive("hand");
$("by-camera").onclick = () => drive("camera");
$("snap").onclick = async () => take(await camera.photo());
$("play").onclick = () => (clip.isLoaded && !clip.isPlaying ? drive("clip") : drive("hand"));
$("neutral").onclick = () => {
  if (!camera.isOn || !hasHead) return;
  link.say("hold_neutral");
  notice("your pose and face of now count as neutral", "hint");
};
$("mirror").onchange = () => {
  $("driver-video").classList.toggle("mirrored", $("mirror").checked);
  link.say("new_driver");
};
for (const id of ["mode", "gaze", "expression_scale", "pose_scale", "yaw_limit"]) {
  $(id).oninput = () => {
    const isNumber = $(id).type === "range";
    const text = id === "yaw_limit" ? `${$(id).value}°` : Number($(id).value).toFixed(2);
    if (isNumber) document.querySelector(`output[for="${id}"]`).value = text;
    link.say("settings", { [id]: isNumber ? Number($(id).value) : $(id).value });
  };
}

// --- results ---------------------------------------------------------------------------------------------------------

function stopRecording() {
  if (!recordBegun) return;
  recordBegun = 0;
  link.say("stop");
  $("record").setAttribute("aria-pressed", "false");
  $("record").textContent = "Record";
  $("recording").hidden = true;
}

$("record").onclick = () => {
  if (!hasHead) return notice("drop a photo first");
  if (recordBegun) return stopRecording();
  link.say("record");
  isHandNew = true;
  askAsNeeded();
  recordBegun = performance.now();
  $("record").setAttribute("aria-pressed", "true");
  $("record").textContent = "Stop recording";
  $("recording").hidden = false;
};
for (const button of document.querySelectorAll("[data-export]")) {
  button.onclick = () =>
    link.say("export", {
      what: button.dataset.export, transparent: $("transparent").checked, side_by_side: $("side-by-side").checked,
    });
}
$("cancel").onclick = () => link.say("cancel");

// --- keys and colours ------------------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  const { tagName } = event.target; // a select finds its entries by letters, a space presses what has the focus
  if (event.ctrlKey || event.metaKey || event.altKey || tagName === "SELECT") return;
  if (event.key === " " && /^(INPUT|BUTTON|SUMMARY|VIDEO)$/.test(tagName)) return;
  if (event.key === "r") sliders.reset();
  else if (event.key === "n") $("neutral").click();
  else if (event.key === " " && clip.isLoaded) $("play").click();
  else return;
  event.preventDefault();
});
$("theme").onclick = () => {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
};
