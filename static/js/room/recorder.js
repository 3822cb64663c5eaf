/** A recording of the call on this computer: the pictures as they stand here, and every sound. */
import { save } from './kept.js';
import { audioContext } from './sound.js';
import { Tape } from './tape.js';

/** @typedef {{ element: HTMLElement, video: HTMLVideoElement, audio: HTMLAudioElement, name: string }} Source */

const WIDTH = 1280;
const FPS = 15;
const SLICE = 1000; // ms: what is recorded is handed over in such pieces
const TYPES = ['video/webm;codecs=vp9,opus', 'video/webm;codecs=vp8,opus', 'video/webm', 'video/mp4'];

export class Recorder {
  /**
   * @param {HTMLElement} stage the pictures' common parent
   * @param {() => Source[]} sources
   * @param {() => MediaStreamTrack | undefined} microphone one's own, when it is on
   * @param {() => void} onDone
   */
  constructor(stage, sources, microphone, onDone) {
    this._stage = stage;
    this._sources = sources;
    this._microphone = microphone;
    this._onDone = onDone;
    this._canvas = document.createElement('canvas');
    /** @type {MediaRecorder | undefined} */
    this._recorder = undefined;
    /** What is heard, by its track. @type {Map<MediaStreamTrack, MediaStreamAudioSourceNode>} */
    this._heard = new Map();
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this._timer = undefined;
  }

  async start() {
    const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one));
    this._canvas.width = WIDTH;
    this._canvas.height = Math.round((WIDTH * 9) / 16);
    this._mix = audioContext().createMediaStreamDestination();
    this._draw();
    const tracks = [...this._canvas.captureStream(FPS).getTracks(), ...this._mix.stream.getTracks()];
    this._recorder = new MediaRecorder(new MediaStream(tracks), { mimeType: type, videoBitsPerSecond: 2_500_000 });
    await this._collect(this._recorder);
    this._recorder.start(SLICE);
    addEventListener('beforeunload', askFirst);
    this._timer = setInterval(() => this._draw(), 1000 / FPS);
  }

  stop() {
    clearInterval(this._timer);
    if (this._recorder?.state === 'recording') this._recorder.stop();
  }

  /** @param {MediaRecorder} recorder */
  async _collect(recorder) {
    const tape = await Tape.begin(/mp4/.test(recorder.mimeType) ? 'mp4' : 'webm');
    let began = performance.now();
    recorder.addEventListener('start', () => (began = performance.now()));
    recorder.addEventListener('dataavailable', ({ data }) => data.size && tape.add(data));
    recorder.addEventListener('stop', () => {
      removeEventListener('beforeunload', askFirst);
      clearInterval(this._timer); // it may have broken
      for (const track of recorder.stream.getTracks()) track.stop();
      for (const node of this._heard.values()) node.disconnect();
      this._heard.clear();
      this._onDone();
      void save(tape, performance.now() - began);
    });
  }

  _draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this._canvas.getContext('2d'));
    const { width, height } = this._canvas;
    const frame = this._stage.getBoundingClientRect();
    const scale = Math.min(width / (frame.width || 1), height / (frame.height || 1));
    const sources = this._sources();
    const style = getComputedStyle(this._stage);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, width, height);
    context.save();
    context.translate((width - frame.width * scale) / 2, (height - frame.height * scale) / 2);
    context.scale(scale, scale);
    for (const source of sources) drawSeat(context, frame, source);
    context.restore();
    this._mixIn(sources);
  }

  /** Sounds come and go while it runs. @param {Source[]} sources */
  _mixIn(sources) {
    const streams = sources.map(({ audio }) => /** @type {MediaStream | null} */ (audio.srcObject));
    const microphone = this._microphone();
    const wanted = new Set(streams.flatMap((stream) => stream?.getAudioTracks() ?? []));
    if (microphone) wanted.add(microphone);
    for (const track of wanted) if (!this._heard.has(track)) this._hear(track);
    for (const [track, node] of this._heard) {
      if (wanted.has(track)) continue;
      node.disconnect();
      this._heard.delete(track);
    }
  }

  /** @param {MediaStreamTrack} track */
  _hear(track) {
    const node = audioContext().createMediaStreamSource(new MediaStream([track]));
    node.connect(/** @type {MediaStreamAudioDestinationNode} */ (this._mix));
    this._heard.set(track, node);
  }
}

/** The browser asks whether to leave, in its own words. @param {Event} event */
const askFirst = (event) => event.preventDefault();

/** @param {CanvasRenderingContext2D} context @param {DOMRect} frame @param {Source} source */
function drawSeat(context, frame, { element, video, name }) {
  const place = element.getBoundingClientRect();
  const [x, y] = [place.left - frame.left, place.top - frame.top];
  const style = getComputedStyle(element);
  context.save();
  context.beginPath();
  context.rect(x, y, place.width, place.height);
  context.clip();
  context.fillStyle = style.backgroundColor;
  context.fillRect(x, y, place.width, place.height);
  if (video.videoWidth) drawVideo(context, video, { x, y, width: place.width, height: place.height });
  context.fillStyle = style.color;
  context.font = `14px ${style.fontFamily}`;
  context.shadowColor = style.backgroundColor;
  context.shadowBlur = 6;
  context.fillText(name, x + 10, y + place.height - 12, place.width - 20);
  context.restore();
}

/** As `object-fit` has it. @param {CanvasRenderingContext2D} context @param {HTMLVideoElement} video @param {{ x: number, y: number, width: number, height: number }} box */
function drawVideo(context, video, { x, y, width, height }) {
  const { videoWidth, videoHeight } = video;
  const fit = getComputedStyle(video).objectFit === 'contain' ? Math.min : Math.max;
  const scale = fit(width / videoWidth, height / videoHeight);
  const [w, h] = [videoWidth * scale, videoHeight * scale];
  context.drawImage(video, x + (width - w) / 2, y + (height - h) / 2, w, h);
}
