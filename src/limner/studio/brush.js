// A brush on a picture: what is marked is to be painted anew. With the mouse, a finger, or the arrow keys and space.
// The mask leaves as a data URL in props.value, white where it was marked; the picture comes in as props.picture.
const canvas = element.querySelector('canvas');
const pen = canvas.getContext('2d');
const mask = document.createElement('canvas');
const marks = mask.getContext('2d', { willReadFrequently: true });
const size = element.querySelector('input[type=range]');
const said = element.querySelector('[role=status]');
const VEIL = 0.7;
let picture = null;
let at = null;
let drawing = false;
let erasing = false;
let showBrush = false;

function radius() {
  return (Number(size.value) / 200) * Math.max(mask.width, mask.height);
}

// Dark and light side by side, so that marks are seen on a picture of any colour.
function stripes() {
  const tile = document.createElement('canvas');
  const wide = Math.max(2, Math.round(Math.max(mask.width, mask.height) / 64)) * 2;
  tile.width = tile.height = wide;
  const one = tile.getContext('2d');
  one.fillStyle = '#7a1fa2';
  one.fillRect(0, 0, wide, wide);
  one.fillStyle = '#f5d4ff';
  one.fillRect(0, 0, wide / 2, wide / 2);
  one.fillRect(wide / 2, wide / 2, wide / 2, wide / 2);
  return tile;
}

function show() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture) return;
  pen.imageSmoothingEnabled = picture.width > canvas.width;
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const veil = document.createElement('canvas');
  veil.width = mask.width;
  veil.height = mask.height;
  const colour = veil.getContext('2d');
  colour.drawImage(mask, 0, 0);
  colour.globalCompositeOperation = 'source-in';
  colour.fillStyle = colour.createPattern(stripes(), 'repeat');
  colour.fillRect(0, 0, veil.width, veil.height);
  pen.globalAlpha = VEIL;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(veil, 0, 0, canvas.width, canvas.height);
  pen.globalAlpha = 1;
  if (showBrush && at) {
    const scale = canvas.width / mask.width;
    for (const [width, style] of [[4, '#000'], [2, '#fff']]) {
      pen.lineWidth = width;
      pen.strokeStyle = style;
      pen.beginPath();
      pen.arc(at.x * scale, at.y * scale, radius() * scale, 0, 2 * Math.PI);
      pen.stroke();
    }
  }
}

function dab(from, to) {
  marks.globalCompositeOperation = erasing ? 'destination-out' : 'source-over';
  marks.fillStyle = marks.strokeStyle = '#fff';
  marks.lineCap = 'round';
  marks.lineWidth = 2 * radius();
  marks.beginPath();
  marks.moveTo(from.x, from.y);
  marks.lineTo(to.x, to.y + (from.x === to.x && from.y === to.y ? 0.01 : 0));
  marks.stroke();
  show();
}

function hand_over() {
  const pixels = marks.getImageData(0, 0, mask.width, mask.height).data;
  let marked = 0;
  for (let i = 3; i < pixels.length; i += 4) if (pixels[i] > 127) marked += 1;
  const share = Math.round((100 * marked) / (mask.width * mask.height));
  said.textContent = marked ? `${Math.max(1, share)} % of the picture is marked.` : 'Nothing is marked.';
  props.value = marked ? mask.toDataURL('image/png') : '';
  trigger('change');
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * mask.width,
    y: ((event.clientY - box.top) / box.height) * mask.height,
  };
}

function wipe() {
  marks.clearRect(0, 0, mask.width, mask.height);
  show();
  hand_over();
}

function open() {
  if (!props.picture) {
    picture = null;
    canvas.hidden = true;
    show();
    return;
  }
  const image = new Image();
  image.onload = () => {
    picture = image;
    mask.width = image.width;
    mask.height = image.height;
    const scale = Math.max(1, Math.round(512 / Math.max(image.width, image.height)));
    canvas.width = image.width * scale;
    canvas.height = image.height * scale;
    canvas.hidden = false;
    at = { x: image.width / 2, y: image.height / 2 };
    wipe();
  };
  image.src = props.picture;
}

canvas.addEventListener('pointerdown', (event) => {
  if (!picture) return;
  event.preventDefault();
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  at = place(event);
  dab(at, at);
});
canvas.addEventListener('pointermove', (event) => {
  if (!picture) return;
  const to = place(event);
  showBrush = true;
  if (drawing) dab(at, to);
  at = to;
  if (!drawing) show();
});
for (const name of ['pointerup', 'pointercancel']) {
  canvas.addEventListener(name, () => {
    if (!drawing) return;
    drawing = false;
    hand_over();
  });
}
canvas.addEventListener('pointerleave', () => {
  showBrush = document.activeElement === canvas;
  show();
});
canvas.addEventListener('focus', () => {
  showBrush = canvas.matches(':focus-visible');
  show();
});
canvas.addEventListener('blur', () => {
  showBrush = false;
  show();
});
canvas.addEventListener('keydown', (event) => {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!picture || !(event.key in ways || event.key === ' ' || event.key === 'Delete')) return;
  event.preventDefault();
  showBrush = true;
  if (event.key === 'Delete') return wipe();
  if (event.key === ' ') {
    dab(at, at);
    return hand_over();
  }
  const step = Math.max(1, radius() / 2);
  const [right, down] = ways[event.key];
  const to = {
    x: Math.min(mask.width, Math.max(0, at.x + right * step)),
    y: Math.min(mask.height, Math.max(0, at.y + down * step)),
  };
  if (event.shiftKey) {
    dab(at, to);
    hand_over();
  }
  at = to;
  show();
});
element.querySelector('[data-do=erase]').addEventListener('click', (event) => {
  erasing = !erasing;
  event.currentTarget.setAttribute('aria-pressed', String(erasing));
});
element.querySelector('[data-do=wipe]').addEventListener('click', wipe);
size.addEventListener('input', show);
watch('picture', open);
open();
