// The page: wires photo, drivers, sliders and results to the link.

import { Camera, Clip } from "./drivers.js";
import { KeyLine } from "./keyframes.js";
import { Link } from "./link.js";
import { Meter } from "./meter.js";
import { Results } from "./results.js";
import { Sliders } from "./sliders.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const NAMES_OF_WORK = { photo: "Making the head", clip: "Following the clip", motion: "Reading the motion",
  export: "Writing the file", record: "Finishing the recording" };

const link = new Link(), meter = new Meter(), sliders = new Sliders(), camera = new Camera(), clip = new Clip();
const stage = new Stage(sliders), line = new KeyLine(sliders), results = new Results(link);
let photo = null, clipFile = null, hasHead = false, driver = "hand", isHandNew = false, isSought = false, recordBegun = 0;
window.studio = { // for tests and the curious
  link, meter, sliders, line, shown: 0, shownStamp: 0,
  get isIdle() { return !isHandNew && !isSought && this.shownStamp === link.asked; },
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
    if (clip.isPlaying) link.draw({ index: clip.index });
    else if (line.isPlaying || isSought) link.draw({ seconds: line.seconds });
    else if (isHandNew && !camera.isOn) link.draw();
    isSought = false;
    if (!camera.isOn) isHandNew = false;
  }
}

function showHand() {
  link.say("hand", sliders.state);
  isHandNew = true;
  isSought = false;
  askAsNeeded();
}

/** Has the pose of the line shown at its moment; the sliders follow. */
function seek() {
  isSought = true;
  isHandNew = false;
  askAsNeeded();
}

sliders.addEventListener("change", () => {
  line.play(false);
  line.keep();
  showHand();
});

function everyFrame() {
  if (clip.isPlaying || line.isPlaying) askAsNeeded();
  line.tick();
  requestAnimationFrame(everyFrame);
}
requestAnimationFrame(everyFrame);

// --- keyframes -------------------------------------------------------------------------------------------------------

line.addEventListener("change", () => {
  link.say("keys", line.state);
  results.offer({ keys: !line.isEmpty });
});
line.addEventListener("select", () => {
  if (driver !== "hand") drive("hand");
  showHand();
});
line.addEventListener("seek", () => {
  if (driver !== "hand") drive("hand");
  seek();
});
line.addEventListener("play", () => {
  if (line.isPlaying && !hasHead) notice("drop a photo first");
  if (line.isPlaying) drive("line");
  else if (driver === "line") {
    link.say("hand", sliders.state);
    drive("hand");
    seek();
  }
});
link.addEventListener("pose", ({ detail }) => {
  if (detail.stamp !== link.asked || driver === "camera" || clip.isPlaying) return;
  sliders.showState(detail);
  if (!line.isPlaying) link.say("hand", sliders.state);
});

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
  showHand();
});
link.addEventListener("clip", ({ detail }) => {
  clip.load(detail.is_motion ? null : clipFile, detail);
  detail.warnings.forEach((text) => notice(text));
  $("play").hidden = false;
  results.offer({ clip: true });
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
link.addEventListener("file", ({ detail }) => results.add(detail));
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
  if (kind === "photo") [photo, results.name] = [file, file.name.replace(/\.\w+$/, "")];
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
  driver = by;
  if (by !== "line") line.play(false);
  if (by !== "hand") line.leave();
  if (by !== "clip") clip.stop();
  if (by !== "camera") camera.stop();
  meter.clear();
  if (by === "camera" && !camera.isOn) {
    try {
      await camera.start();
    } catch (error) {
      notice(`the webcam cannot be used: ${error.message}`, "error");
      driver = by = "hand";
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
$("sample").onclick = () => {
  [photo, results.name] = [null, "sample"];
  link.say("sample");
};
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
$("write").onclick = () => {
  if (!hasHead) return notice("drop a photo first");
  if (results.wanted.what === "png") line.play(false); // what is seen now
  link.say("export", results.wanted);
};
$("cancel").onclick = () => link.say("cancel");

// --- keys and colours ------------------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  const { tagName } = event.target; // a select finds its entries by letters, a space presses what has the focus
  if (event.ctrlKey || event.metaKey || event.altKey || tagName === "SELECT") return;
  if (event.key === " " && /^(INPUT|BUTTON|SUMMARY|VIDEO)$/.test(tagName)) return;
  if (event.key === "r") sliders.reset();
  else if (event.key === "k") line.add();
  else if (event.key === "n") $("neutral").click();
  else if (event.key === " " && (line.isPlaying || (!clip.isPlaying && !line.isEmpty))) line.play(!line.isPlaying);
  else if (event.key === " " && clip.isLoaded) $("play").click();
  else return;
  event.preventDefault();
});
$("theme").onclick = () => {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
};
