"use strict";
// The volumes of a case: they stand in the page, or in files beside it, and none is read before it is asked for.
window.report.layers = (() => {
  const { data, make } = window.report;
  // Blue and orange, which nearly everyone can tell apart; agreement is pale.
  const differenceColors = [["both agree", "#d9e3ea", 0.35], ["only in the reference", "#56B4E9"], ["only in the prediction", "#E69F00"], ["another label", "#CC79A7"]];
  const received = new Map();

  // Files beside the page call this with their own name, since a page opened from a disk may not read them otherwise.
  window.tumorsegVolumes = (file, layers) => received.set(file, layers);

  async function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function readLayers(number) {
    const { layers, file } = data.viewer[number];
    if (!file) return Promise.resolve(Object.fromEntries(layers.map((name) => [name, document.getElementById(`volume-${number}-${name}`).textContent])));
    return new Promise((resolve, reject) => {
      const script = make("script", { src: file, onload: () => settle("is not the one that this page was written with"), onerror: () => settle("is not beside the page") });
      // A file that names another than was asked for was put there by something else.
      function settle(fault) {
        const found = received.get(file);
        received.delete(file);
        script.remove();
        return found ? resolve(found) : reject(new Error(`${file} ${fault}`));
      }
      document.head.append(script);
    });
  }

  function lookup(colors) {
    const channel = (place) => [0, ...colors.map(([, color]) => parseInt(color.slice(place, place + 2), 16))];
    const numbers = [0, ...colors.map((_, index) => index + 1)];
    const alpha = [0, ...colors.map(([, , share = 1]) => 255 * share)];
    return { R: channel(1), G: channel(3), B: channel(5), A: alpha, I: numbers, labels: ["", ...colors.map(([name]) => name)] };
  }

  function labelColors(number) {
    return data.viewer[number].labels.map((label) => [label.name, label.color]);
  }

  async function volume(name, base64, colors) {
    const found = await window.niivue.NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, colormap: "gray", cal_min: 0, cal_max: 255 });
    if (colors) found.setColormapLabel(lookup(colors));
    return found;
  }

  // The numbers of `differenceColors`, from 1, voxel by voxel.
  function difference(reference, prediction) {
    const found = reference.clone();
    for (let index = 0; index < found.img.length; index += 1) {
      const [wanted, given] = [reference.img[index], prediction.img[index]];
      if (wanted === given) found.img[index] = wanted ? 1 : 0;
      else if (!given) found.img[index] = 2;
      else found.img[index] = wanted ? 4 : 3;
    }
    found.setColormapLabel(lookup(differenceColors));
    return found;
  }

  // Returns [name, volume] of all layers, the image first; what is shown stays as it is.
  async function load(number) {
    const layers = await readLayers(number);
    const volumes = [["image", await volume("image", layers.image)]];
    for (const name of ["reference", "prediction"]) {
      if (layers[name]) volumes.push([name, await volume(name, layers[name], labelColors(number))]);
    }
    if (layers.reference && layers.prediction) volumes.push(["difference", difference(volumes[1][1], volumes[2][1])]);
    return volumes;
  }

  // [x, y, z] of the voxel of any structure that is nearest to the middle of all of them, be they found, missed or invented; null
  // where there is none.
  function middleVoxel(segmentations) {
    if (!segmentations.length) return null;
    const [{ hdr, img }] = segmentations;
    const [width, height] = hdr.dims.slice(1, 3);
    const edges = hdr.pixDims.slice(1, 4);
    const placeOf = (index) => [index % width, Math.floor(index / width) % height, Math.floor(index / (width * height))];
    const held = [];
    const sums = [0, 0, 0];
    for (let index = 0; index < img.length; index += 1) {
      if (!segmentations.some((found) => found.img[index])) continue;
      held.push(index);
      placeOf(index).forEach((place, axis) => (sums[axis] += place));
    }
    let [nearest, least] = [null, Infinity];
    for (const index of held) {
      const place = placeOf(index);
      const distance = place.reduce((sum, found, axis) => sum + ((found - sums[axis] / held.length) * edges[axis]) ** 2, 0);
      if (distance < least) [nearest, least] = [place, distance];
    }
    return nearest;
  }

  return { unpacked, load, labelColors, differenceColors, middleVoxel };
})();
