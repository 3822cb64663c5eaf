/** Media connections as far as the engine of a call needs them (W3C WebRTC); a test connects them itself. */
import { put } from './browser.mjs';

/** A track of a camera or microphone. */
export class Track extends EventTarget {
  enabled = true;
  contentHint = '';
  applied = [];

  constructor(kind, settings = {}) {
    super();
    Object.assign(this, { kind, settings });
  }

  getSettings() {
    return this.settings;
  }

  getConstraints() {
    return this.applied.at(-1) ?? {};
  }

  async applyConstraints(constraints) {
    this.applied.push(constraints);
  }

  stop() {
    this.stopped = true;
  }
}

class Sender {
  parameters = { encodings: [{}] };
  /** Awaited before a track is in place. */
  wait = async () => {};

  constructor(track) {
    this.track = track;
  }

  async replaceTrack(track) {
    await this.wait();
    this.track = track;
  }

  getParameters() {
    return structuredClone(this.parameters);
  }

  async setParameters(parameters) {
    this.parameters = parameters;
  }
}

class Channel extends EventTarget {
  readyState = 'connecting';
  bufferedAmount = 0;
  sent = [];

  send(content) {
    this.sent.push(content);
  }

  /** Open, or closed by the other side. */
  become(state) {
    this.readyState = state;
    this[state === 'open' ? 'onopen' : 'onclose']?.();
  }
}

let made = 0;

/** Its descriptions are the smallest that tell one from the other. */
export class Connection {
  /** Each that was made, and has not only lent its tracks. */
  static all = [];
  signalingState = 'stable';
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  transceivers = [];
  channels = [];
  candidates = [];
  /** Answers that were taken, with the offer each was taken for. */
  answers = [];

  addTransceiver(kind) {
    return { receiver: { track: new Track(kind) } };
  }

  addTrack(track) {
    if (!this.transceivers.length) Connection.all.push(this);
    const receiver = { track: new Track(track.kind), getSynchronizationSources: () => [] };
    this.transceivers.push({ sender: new Sender(track), receiver });
    return this.transceivers.at(-1).sender;
  }

  getTransceivers() {
    return this.transceivers;
  }

  createDataChannel() {
    this.channels.push(new Channel());
    return this.channels.at(-1);
  }

  async setLocalDescription() {
    const isAnswer = this.signalingState === 'have-remote-offer';
    await null;
    made += 1;
    this.localDescription = { type: isAnswer ? 'answer' : 'offer', sdp: `v=0\r\na=ice-ufrag:u${made}\r\n` };
    this.signalingState = isAnswer ? 'stable' : 'have-local-offer';
  }

  async setRemoteDescription({ type, sdp }) {
    await null;
    if (type === 'answer') this.answers.push([sdp, this.localDescription.sdp]);
    this.remoteDescription = { type, sdp };
    this.signalingState = type === 'answer' ? 'stable' : 'have-remote-offer';
  }

  async addIceCandidate(candidate) {
    if (candidate.candidate === 'bad') throw new Error('OperationError');
    this.candidates.push(candidate.candidate);
  }

  restartIce() {
    queueMicrotask(() => this.onnegotiationneeded?.());
  }

  /** A candidate of this side is found. */
  find(candidate) {
    this.onicecandidate?.({ candidate: { toJSON: () => ({ candidate }) } });
  }

  /** What the browser says of the way. */
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  async getStats() {
    return new Map();
  }

  getConfiguration() {
    return {};
  }

  setConfiguration() {}

  close() {
    this.signalingState = this.connectionState = 'closed';
  }
}

put('RTCPeerConnection', Connection);
put('RTCRtpReceiver', { getCapabilities: () => ({ codecs: [] }) });
put(
  'MediaStream',
  class {
    constructor(tracks = []) {
      this.tracks = tracks;
    }

    getTracks() {
      return this.tracks;
    }
  },
);
