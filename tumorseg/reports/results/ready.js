"use strict";
// After the first paint with everything in place: how long the page took to open, which tests read.
requestAnimationFrame(() => setTimeout(() => {
  document.documentElement.dataset.readyMs = Math.round(performance.now());
}));
