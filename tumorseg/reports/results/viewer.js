"use strict";
// The viewer: NiiVue, what it shows of a case, and how that is chosen.
(() => {
  const { data, make, choice, layers: { unpacked, load, labelColors, differenceColors, middleVoxel } } = window.report;
  if (!data.viewer.length) return;
  const section = document.getElementById("viewer");
  const stage = section.querySelector(".stage");
  const canvas = section.querySelector("canvas");
  const status = section.querySelector("[role=status]");
  const legend = section.querySelector(".legend");
  const opacity = 0.6;
  const crossPixels = 1.5;
  const noWebgl = "This browser has no WebGL 2, which the viewer needs; the pictures of slices remain.";
  const hint = "Choose a case; drag over a slice to move the cross, turn the wheel to leaf through.";
  // `layers` of the case to be seen, by name in the order of NiiVue's volumes; none while there is no case.
  const state = { shown: "prediction", layers: [], number: null };
  let webgl = null;
  let niivue = null;
  let starting = null;
  let requests = 0;

  function tell(words, outcome) {
    status.textContent = words;
    section.dataset.state = outcome;
  }

  // NiiVue counts the first axis from the patient's left, pictures in radiological display begin with the right.
  function turned(share, axis) {
    return axis === 0 ? 1 - share : share;
  }

  // Asked once: each answer takes a context, of which a browser keeps a few, and then takes away the first, which is the viewer's.
  function hasWebgl() {
    webgl ??= document.createElement("canvas").getContext("webgl2") !== null;
    return webgl;
  }

  // Once for all cases, and anew only after it failed.
  function started() {
    starting ||= start().catch((error) => {
      starting = null;
      throw error;
    });
    return starting;
  }

  async function start() {
    const code = await unpacked(document.getElementById("viewer-code").textContent);
    // The page's policy holds the hash of exactly this text, and lets no other run.
    document.head.append(make("script", {}, code));
    if (!window.niivue) throw new Error("the browser did not run the viewer's code");
    const viewer = new window.niivue.Niivue({
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      multiplanarShowRender: window.niivue.SHOW_RENDER.ALWAYS,
      show3Dcrosshair: true,
      showAllOrientationMarkers: true,
      crosshairColor: [0.9, 0.9, 0.9, 0.7],
      crosshairWidthUnit: "mm",
      fontColor: [0.85, 0.85, 0.85, 1],
      loadingText: "",
      logLevel: "silent",
      scrollRequiresFocus: true,
    });
    await viewer.attachToCanvas(canvas);
    viewer.onLocationChange = (place) => {
      place.frac.slice(0, 3).forEach((share, axis) => (sliders[axis].value = turned(share, axis)));
    };
    niivue = viewer;
    // NiiVue itself follows with the next frame.
    new ResizeObserver(() => setTimeout(fitCross, 100)).observe(stage);
  }

  // NiiVue measures the cross in millimetres, so that of a large image it would be thinner than a pixel, and not drawn.
  function fitCross() {
    if (state.number === null) return;
    const slices = niivue.screenSlices.filter(({ axCorSag }) => axCorSag <= 2);
    // A slice fills its part of the canvas along one axis alone, on which a pixel is the larger one.
    const edges = slices.flatMap(({ fovMM, leftTopWidthHeight: part }) => [fovMM[0] / Math.abs(part[2]), fovMM[1] / Math.abs(part[3])]);
    if (edges.length) niivue.setCrosshairWidth(crossPixels * window.devicePixelRatio * Math.max(...edges));
  }

  function show(name) {
    state.shown = name;
    layerChoice.select.value = name;
    state.layers.forEach((layer, index) => index && niivue.setOpacity(index, layer === name ? opacity : 0));
    const colors = name === "difference" ? differenceColors : labelColors(state.number);
    const entries = colors.map(([words, color]) => {
      const swatch = make("span", { class: "swatch" });
      swatch.style.background = color;
      return make("li", {}, swatch, words);
    });
    legend.replaceChildren(...(name === "image" ? [] : entries));
  }

  function centre() {
    const voxel = middleVoxel(niivue.volumes.filter((_, index) => ["reference", "prediction"].includes(state.layers[index])));
    niivue.scene.crosshairPos = voxel ? niivue.volumes[0].convertVox2Frac(voxel) : [0.5, 0.5, 0.5];
    niivue.createOnLocationChange();
  }

  function close(words, outcome) {
    state.number = null;
    stage.hidden = true;
    legend.replaceChildren();
    tell(words, outcome);
  }

  function place(number, volumes) {
    state.number = number;
    state.layers = volumes.map(([name]) => name);
    while (niivue.volumes.length) niivue.removeVolume(niivue.volumes[niivue.volumes.length - 1]);
    for (const [, found] of volumes) niivue.addVolume(found);
    for (const option of layerChoice.select.options) option.disabled = !state.layers.includes(option.value);
    show(state.layers.includes(state.shown) ? state.shown : state.layers[state.layers.length - 1]);
    centre();
    niivue.updateGLVolume();
    fitCross();
    section.dataset.layers = niivue.volumes.length;
    const { case: name, remark } = data.viewer[number];
    tell([`${name}, radiological display`, remark].filter(Boolean).join("; "), "loaded");
  }

  async function openCase(number) {
    section.scrollIntoView();
    if (!hasWebgl()) return tell(noWebgl, "no-webgl");
    const request = (requests += 1);
    caseChoice.select.value = number;
    // Who came by keyboard from the table goes on here.
    caseChoice.select.focus({ preventScroll: true });
    tell("Loading …", "loading");
    stage.hidden = false;
    try {
      await started();
      const volumes = await load(number);
      // Meanwhile another case may have been chosen, which then is the one to be seen.
      if (request === requests) place(number, volumes);
    } catch (error) {
      if (request === requests) close(`The case cannot be shown: ${error.message}`, "failed");
    }
    return undefined;
  }

  function choose(value) {
    if (value !== "") return openCase(Number(value));
    requests += 1;
    return close(hint, "ready");
  }

  const caseChoice = choice("Case", [["", "choose"], ...data.viewer.map((found, index) => [index, found.case])], choose);
  const shownLayers = [["prediction", "prediction"], ["reference", "reference"], ["difference", "difference"], ["image", "image alone"]];
  const layerChoice = choice("Show", shownLayers, (value) => state.number !== null && show(value));
  const views = [[3, "slices and 3D"], [0, "axial"], [1, "coronal"], [2, "sagittal"], [4, "3D"]];
  const viewChoice = choice("View", views, (value) => {
    if (!niivue) return;
    niivue.setSliceType(Number(value));
    fitCross();
  });
  const sliders = ["Right to left", "Back to front", "Foot to head"].map((words, axis) => {
    const move = () => {
      if (state.number === null) return;
      niivue.scene.crosshairPos[axis] = turned(Number(slider.value), axis);
      niivue.drawScene();
    };
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.002, value: 0.5, "aria-label": words, oninput: move });
    return slider;
  });
  const labelled = sliders.map((slider) => make("label", {}, slider.getAttribute("aria-label"), slider));
  section.querySelector(".controls").append(caseChoice.field, layerChoice.field, viewChoice.field, ...labelled);
  window.report.openCase = openCase;
  tell(hint, "ready");
  // Asking for WebGL may take a second, so not before the viewer comes into sight.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    if (!hasWebgl()) tell(noWebgl, "no-webgl");
  }).observe(section);
})();
