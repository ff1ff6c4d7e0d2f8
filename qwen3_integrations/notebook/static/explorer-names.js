// The names of clusters on the map: the largest cluster first, each near the middle of its points, and none over another.

/** `place(group)`: a group's middle in the stage, or null; `stage` and `avoid`: elements that names stay inside of, and do not cover;
 *  `taken()`: boxes that names do not cover either. */
function namesLayer({ stage, avoid, place, taken: others }) {
  const element = h("div", { class: "q3-names", "aria-hidden": "true" });
  let tags = [], boxes = [], width = 0, height = 0, corner = null;
  const pen = document.createElement("canvas").getContext("2d");

  function set(names) {
    tags = names.map((name) => h("span", {}, name.split(", ").slice(0, 2).join(", "))); // the legend has the whole name
    measure();
    element.replaceChildren(...tags);
  }

  function layOut() {
    if (element.hidden || !tags.length || !width) return;
    const taken = [corner, ...others()];
    tags.forEach((tag, group) => {
      const middle = place(group), [wide, high] = boxes[group];
      const free = middle && middle[0] > 0 && middle[0] < width && middle[1] > 0 && middle[1] < height ? spotFor(middle, wide, high) : null;
      tag.style.visibility = free ? "visible" : "hidden";
      if (free) { taken.push(free); tag.style.transform = `translate(${Math.round(free.left)}px, ${Math.round(free.top)}px)`; }
    });

    function spotFor([x, y], wide, high) {
      const left = Math.min(Math.max(x - wide / 2, 2), width - wide - 2);
      for (const down of [0, 1, -1, 2, -2]) {
        const top = y - high / 2 + down * (high + 2);
        const box = { left, right: left + wide, top, bottom: top + high };
        const clear = taken.every((other) => box.right + 2 < other.left || other.right + 2 < box.left || box.bottom < other.top || other.bottom < box.top);
        if (clear && top > 2 && box.bottom < height - 2) return box;
      }
      return null;
    }
  }
  /** Reads sizes; other functions only write, so that a frame has no layout in between. */
  function resize() {
    [width, height] = [stage.clientWidth, stage.clientHeight];
    corner = { left: avoid.offsetLeft - 4, right: width, top: 0, bottom: avoid.offsetTop + avoid.offsetHeight + 4 };
    pen.font = `600 12px ${getComputedStyle(stage).fontFamily}`; // as in the style sheet
    measure();
  }

  const measure = () => { boxes = tags.map((tag) => [Math.min(Math.ceil(pen.measureText(tag.textContent).width) + 11, 0.6 * width), 18]); };

  return { element, set, resize, layOut, show: (on) => { element.hidden = !on; layOut(); } };
}

/** The middle of each group's points: the medians of their coordinates, which single far points do not move. */
function middlesOf(of, count, xs, ys) {
  const members = Array.from({ length: count }, () => []);
  of.forEach((group, index) => { if (group >= 0 && !Number.isNaN(xs[index] ?? NaN)) members[group].push(index); });
  const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  return members.map((each) => (each.length ? [median(each.map((index) => xs[index])), median(each.map((index) => ys[index]))] : null));
}
