for (const audio of document.querySelectorAll("audio")) {
  const button = document.createElement("button");
  const set = playing => { button.textContent = playing ? "Stop" : "Play"; button.setAttribute("aria-pressed", playing); };
  button.className = "play";
  button.setAttribute("aria-label", "Play " + audio.getAttribute("aria-label"));
  button.onclick = () => { if (audio.paused) audio.play(); else { audio.pause(); audio.currentTime = 0; } };
  audio.onplay = () => { set(true); for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause(); };
  audio.onpause = audio.onended = () => { set(false); audio.currentTime = 0; };
  audio.controls = false;
  audio.style.display = "none";
  audio.after(button);
  set(false);
}
for (const box of navigator.clipboard ? document.querySelectorAll(".copy") : []) {
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.onclick = async () => { await navigator.clipboard.writeText(box.querySelector("pre").textContent); button.textContent = "Copied"; };
  box.append(button);
}
const reveal = () => { const target = document.getElementById(location.hash.slice(1)); if (target && target.tagName === "DETAILS") target.open = true; };
addEventListener("hashchange", reveal);
reveal();
