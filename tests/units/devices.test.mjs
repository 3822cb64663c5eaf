/** The camera and the microphone, and what to say of their faults (`static/js/room/devices.js`, `faults.js`). */
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { beforeEach, test } from 'node:test';
import { Clock, put, settled, Storage } from './browser.mjs';
import { Devices, faultOf } from '../../static/js/room/devices.js';
import { canBlur, setBlur, tune } from '../../static/js/room/tuning.js';
import { advice, faultText } from '../../static/js/room/faults.js';
import { remember } from '../../static/js/room/memory.js';
import { setLanguage } from '../../static/js/i18n.js';

/** A track of a device. */
class Track extends EventTarget {
  stopped = false;
  applied = [];
  /** What becomes of the sound while it is open, as in Firefox; Chromium changes nothing. */
  obeys = true;

  getConstraints() {
    return this.applied.at(-1) ?? {};
  }

  getCapabilities() {
    return this.capabilities ?? {};
  }

  async applyConstraints(constraints) {
    this.applied.push(constraints);
    if (this.obeys) for (const name of ['echoCancellation', 'noiseSuppression']) this.settings[name] = constraints[name];
  }

  constructor(kind, settings) {
    super();
    Object.assign(this, { kind, settings });
  }

  getSettings() {
    return this.settings;
  }

  stop() {
    this.stopped = true;
  }
}

const device = (kind, deviceId, groupId = '') => ({ kind, deviceId, groupId, label: deviceId });

/** What the browser is asked for; `fails` gives what it throws. */
let media;
class Media extends EventTarget {
  asked = [];
  made = [];
  fails = () => undefined;
  wait = async () => {};
  found = [
    device('audioinput', 'mic'),
    device('videoinput', 'front'),
    device('videoinput', 'back'),
    device('audiooutput', 'box'),
  ];

  async enumerateDevices() {
    return this.found;
  }

  async getUserMedia(constraints) {
    this.asked.push(constraints);
    await this.wait();
    const error = this.fails(constraints);
    if (error) throw error;
    const wanted = ['audio', 'video'].filter((kind) => constraints[kind]);
    const tracks = wanted.map((kind) => this.open(kind, constraints[kind]));
    return { getTracks: () => tracks };
  }

  open(kind, { deviceId, facingMode, echoCancellation }) {
    const settings = { deviceId: deviceId?.exact ?? (kind === 'audio' ? 'mic' : 'front') };
    if (kind === 'audio') settings.echoCancellation = echoCancellation;
    if (this.isPhone && kind === 'video') settings.facingMode = facingMode?.ideal ?? 'user';
    this.made.push(new Track(kind, settings));
    return this.made.at(-1);
  }
}

setMaxListeners(0, document); // each test's devices look whether the page is seen

let permission;
beforeEach(async () => {
  await setLanguage('en', false);
  media = new Media();
  permission = 'denied';
  put('isSecureContext', true);
  put('localStorage', new Storage());
  remember('devices', null); // what the test before chose lasts as long as the page
  put('navigator', {
    languages: ['en'],
    userAgent: '',
    mediaDevices: media,
    permissions: { query: async () => ({ state: permission }) },
  });
});

const fault = (name, message = '') => Object.assign(new Error(message), { name });

/** What was asked for, by kind. */
const kinds = () => media.asked.map((one) => Object.keys(one).join());

async function started(setUp = () => {}) {
  const devices = new Devices();
  setUp(devices);
  await devices.start();
  return devices;
}

// ---- opening -------------------------------------------------------------------------------------

test('both are asked for in one question, with what was chosen before', async () => {
  localStorage.setItem('rtapp.call.devices', '{"audio":"headset"}');
  const devices = await started();
  const sound = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  assert.deepEqual(media.asked, [
    {
      audio: { ...sound, deviceId: { exact: 'headset' } },
      video: {
        width: { ideal: 1280 },
        height: { ideal: 720 },
        frameRate: { ideal: 30 },
        facingMode: { ideal: 'user' },
      },
    },
  ]);
  assert.deepEqual([devices.inUse('audio'), devices.inUse('video'), devices.faults], ['headset', 'front', {}]);
  assert.deepEqual(devices.lists.video.map(({ deviceId }) => deviceId), ['front', 'back']);
});

test('only what is switched on is asked for', async () => {
  const devices = await started((one) => (one.on.video = false));
  assert.deepEqual([kinds(), devices.tracks.video], [['audio'], undefined]);
});

test('where one of two fails the other is opened all the same', async () => {
  media.fails = ({ video }) => video && fault('NotReadableError');
  const devices = await started();
  assert.deepEqual(kinds(), ['audio,video', 'audio', 'video', 'video', 'video'], 'and each camera is tried');
  assert.deepEqual([devices.tracks.audio?.kind, devices.faults], ['audio', { video: 'busy' }]);
});

test('who refused is not asked again', async () => {
  media.fails = () => fault('NotAllowedError');
  const devices = await started();
  assert.deepEqual([kinds(), devices.faults], [['audio,video'], { audio: 'denied', video: 'denied' }]);
});

test('what is allowed for good is asked for apart from what was refused', async () => {
  put('navigator', {
    ...navigator,
    permissions: { query: async ({ name }) => ({ state: name === 'microphone' ? 'granted' : 'denied' }) },
  });
  media.fails = ({ video }) => video && fault('NotAllowedError');
  const devices = await started();
  assert.deepEqual([kinds(), devices.faults], [['audio,video', 'audio'], { video: 'denied' }]);
});

test('a chosen device that is gone is let go for another', async () => {
  localStorage.setItem('rtapp.call.devices', '{"video":"unplugged"}');
  media.fails = ({ video }) => video?.deviceId && fault('OverconstrainedError');
  const devices = await started();
  assert.deepEqual([devices.inUse('video'), devices.faults], ['front', {}]);
  assert.equal(JSON.parse(localStorage.getItem('rtapp.call.devices')).video, 'unplugged', 'it may come back');
});

test('nothing can be asked for without a secure page or a browser that knows how', async () => {
  put('isSecureContext', false);
  assert.deepEqual((await started()).faults, { audio: 'insecure', video: 'insecure' });
  put('isSecureContext', true);
  put('navigator', {});
  assert.deepEqual((await started()).faults, { audio: 'unsupported', video: 'unsupported' });
  assert.deepEqual(media.asked, []);
});

test('what comes after one has left is closed at once', async () => {
  let answer;
  media.wait = () => new Promise((resolve) => (answer = resolve));
  const devices = new Devices();
  const start = devices.start();
  await settled();
  devices.stop();
  answer();
  await start;
  assert.deepEqual([devices.tracks, media.made.map(({ stopped }) => stopped)], [{}, [true, true]]);
});

// ---- switching -----------------------------------------------------------------------------------

test('a camera that is switched off is closed, a microphone stays open', async () => {
  const devices = await started();
  const [audio, video] = media.made;
  await devices.turn('video', false);
  await devices.turn('audio', false);
  assert.deepEqual([audio.stopped, video.stopped, devices.tracks.video], [false, true, undefined]);
  await devices.turn('audio', true);
  await devices.turn('video', true);
  assert.deepEqual(kinds(), ['audio,video', 'video']);
});

test('a camera that was switched off while it opened is closed', async () => {
  const devices = await started((one) => (one.on.video = false));
  let answer;
  media.wait = () => new Promise((resolve) => (answer = resolve));
  const turning = devices.turn('video', true);
  await settled();
  await devices.turn('video', false);
  answer();
  await turning;
  assert.deepEqual([devices.tracks.video, media.made.at(-1).stopped], [undefined, true]);
});

test('a choice is remembered, and the old camera is closed before the new one is opened', async () => {
  const devices = await started();
  const [, before] = media.made;
  let wasStopped;
  media.wait = async () => (wasStopped = before.stopped);
  await devices.choose('video', 'back');
  assert.deepEqual([devices.inUse('video'), wasStopped], ['back', true]);
  assert.equal(JSON.parse(localStorage.getItem('rtapp.call.devices')).video, 'back');
});

test('a phone turns to its other camera, a computer to its next', async () => {
  const devices = await started();
  await devices.flip();
  assert.equal(devices.inUse('video'), 'back');
  await devices.flip();
  assert.equal(devices.inUse('video'), 'front', 'and from the last to the first');
  media.isPhone = true;
  const phone = await started();
  await phone.flip();
  assert.deepEqual(media.asked.at(-1).video.facingMode, { ideal: 'environment' });
  await phone.flip();
  assert.deepEqual(media.asked.at(-1).video.facingMode, { ideal: 'user' });
});

test('a track that ends is a device that is gone, and is asked for again', async () => {
  const devices = await started();
  const faults = [];
  devices.addEventListener('change', () => faults.push(devices.faults.video));
  media.made[1].dispatchEvent(new Event('ended'));
  await settled();
  assert.ok(faults.includes('gone'));
  assert.deepEqual([kinds().at(-1), devices.faults, devices.tracks.video], ['video', {}, media.made[2]]);
});

// ---- another in its place, ending, going and coming back -----------------------------------------

/** What was asked for by its id, '' where the system was to choose. */
const asked = (kind) => media.asked.filter((one) => one[kind]).map((one) => one[kind].deviceId?.exact ?? '');

test('a remembered camera or microphone that can not be used is no trap: another stands in', async () => {
  for (const name of ['NotReadableError', 'AbortError', 'OverconstrainedError']) {
    localStorage.setItem('rtapp.call.devices', '{"video":"back","audio":"headset"}');
    media = Object.assign(new Media(), { found: [...media.found, device('audioinput', 'headset')] });
    put('navigator', { ...navigator, mediaDevices: media });
    media.fails = ({ audio, video }) =>
      ((video && video.deviceId?.exact !== 'front') || (audio && audio.deviceId?.exact !== 'mic')) && fault(name);
    const devices = await started();
    assert.deepEqual([devices.inUse('video'), devices.inUse('audio'), devices.faults], ['front', 'mic', {}], name);
    assert.deepEqual([asked('video'), asked('audio')], [['back', 'back', '', 'front'], ['headset', 'headset', '', 'mic']]);
    assert.equal(JSON.parse(localStorage.getItem('rtapp.call.devices')).video, 'back', 'it may come back');
  }
});

test('a camera that another program has is tried again by who comes back to the page', async () => {
  media.fails = ({ video }) => video && fault('NotReadableError');
  const devices = await started();
  assert.deepEqual([devices.faults.video, devices.tracks.video], ['busy', undefined]);
  const back = async () => {
    document.dispatchEvent(new Event('visibilitychange'));
    await settled();
    return devices.tracks.video;
  };
  assert.deepEqual([await back(), devices.faults.video], [undefined, 'busy']);
  media.fails = () => undefined;
  const found = await back();
  assert.deepEqual([devices.faults.video, devices.inUse('video')], [undefined, 'front']);
  assert.equal(await back(), found, 'what works is left alone');
});

test('a virtual camera is the last that stands in', async () => {
  media.found.splice(1, 0, device('videoinput', 'OBS Virtual Camera'));
  media.fails = ({ video }) => video && !video.deviceId && fault('NotReadableError');
  assert.equal((await started()).inUse('video'), 'front');
});

test('one that never answers keeps no other from being chosen, and comes too late then', async () => {
  const clock = new Clock();
  let answer;
  media.wait = () => new Promise((resolve) => (answer = resolve));
  const devices = new Devices();
  devices.on.audio = false;
  void devices.start();
  await clock.run(21_000);
  assert.deepEqual([devices.faults, devices.asking.video], [{ video: 'slow' }, true]);
  const late = answer;
  media.wait = async () => {};
  await devices.choose('video', 'back');
  assert.deepEqual([devices.inUse('video'), devices.faults], ['back', {}]);
  late();
  await settled();
  assert.deepEqual([devices.inUse('video'), media.made.map(({ stopped }) => stopped)], ['back', [false, true]]);
});

test('where nothing answers, the others are offered by the names that are known since', async () => {
  const clock = new Clock();
  const { found } = media;
  media.found = [];
  media.wait = () => new Promise(() => {});
  const devices = new Devices();
  const named = [];
  devices.addEventListener('change', () => devices.faults.video && named.push(devices.lists.video.length));
  void devices.start();
  await clock.run(19_999);
  media.found = found;
  await clock.run(1);
  assert.deepEqual(named, [2]);
});

test('a question that another has overtaken asks for the rest alone, and says nothing of the other', async () => {
  const clock = new Clock();
  const answers = [];
  media.wait = () => new Promise((resolve) => answers.push(resolve));
  media.fails = ({ audio, video }) => audio && video && fault('NotReadableError');
  const devices = new Devices();
  void devices.start();
  await clock.run(21_000);
  void devices.choose('video', 'back');
  await clock.run(1_000);
  answers[0](); // both fail
  await clock.run(0);
  assert.deepEqual([kinds(), devices.asking], [['audio,video', 'video', 'audio'], { audio: true, video: true }]);
  answers[2](); // the microphone
  await clock.run(0);
  assert.deepEqual([devices.inUse('audio'), devices.asking], ['mic', { audio: false, video: true }]);
  await clock.run(18_000);
  assert.equal(devices.faults.audio, undefined);
  answers[1]();
  await clock.run(0);
  assert.deepEqual([kinds().length, devices.inUse('video'), devices.asking.video, devices.faults], [3, 'back', false, {}]);
});

test('one that answers late is used all the same', async () => {
  const clock = new Clock();
  let answer;
  media.wait = () => new Promise((resolve) => (answer = resolve));
  const devices = new Devices();
  void devices.start();
  await clock.run(60_000);
  assert.deepEqual(devices.faults, { audio: 'slow', video: 'slow' });
  answer();
  await settled();
  assert.deepEqual([devices.faults, devices.inUse('video'), devices.asking], [{}, 'front', { audio: false, video: false }]);
});

test('when all have failed each is asked for again only by who asks, or plugs something in', async () => {
  media.fails = ({ video }) => video && fault('NotReadableError');
  const devices = await started((one) => (one.on.audio = false));
  assert.deepEqual([asked('video'), devices.faults.video], [['', 'front', 'back'], 'busy']);
  await devices.turn('video', true);
  assert.equal(asked('video').length, 6);
  media.fails = () => undefined;
  const clock = new Clock();
  media.dispatchEvent(new Event('devicechange'));
  await clock.run(500);
  assert.deepEqual([devices.inUse('video'), devices.faults], ['front', {}]);
});

test('whoever shows a track is told when it is gone, however it went', async () => {
  const devices = await started();
  const shown = [];
  devices.addEventListener('track', ({ detail }) => shown.push(devices.tracks[detail.kind]?.settings.deviceId));
  await devices.choose('video', 'back');
  assert.deepEqual(shown, ['back'], 'without a gap');
  media.fails = () => fault('NotReadableError');
  await devices.choose('video', 'front');
  assert.deepEqual(shown, ['back', undefined], 'it could not be opened again');
  media.fails = () => undefined;
  await devices.turn('video', true);
  media.wait = () => new Promise(() => {});
  void devices.choose('video', 'back');
  await settled();
  void devices.turn('video', false);
  assert.deepEqual(shown, ['back', undefined, 'front', undefined], 'switched off while it opens');
});

test('tracks that end at once are asked for a few times, at growing pauses, then by a click', async () => {
  const clock = new Clock();
  const start = clock.now;
  const times = [];
  media.wait = async () => times.push(clock.now - start);
  const open = media.open;
  media.open = (kind, constraints) => {
    const track = open.call(media, kind, constraints);
    setTimeout(() => track.dispatchEvent(new Event('ended')), 50);
    return track;
  };
  const devices = await started((one) => (one.on.audio = false));
  await clock.run(600_000);
  assert.deepEqual(asked('video'), ['', '', '', '', 'back'], 'front is what the system chose');
  assert.deepEqual(times, [0, 50, 1_100, 3_150, 3_200]);
  assert.deepEqual([devices.faults, devices.tracks], [{ video: 'ends' }, {}]);
  media.dispatchEvent(new Event('devicechange')); // of nothing that helps
  await clock.run(60_000);
  assert.equal(media.asked.length, 5);
  await devices.turn('video', true);
  assert.equal(media.asked.length, 6);
  media.open = open;
  await clock.run(600_000);
  assert.deepEqual([devices.faults, devices.inUse('video')], [{}, 'front']);
});

test('a default that is another device now is tried again, as it has the same name', async () => {
  const clock = new Clock();
  media.found = [device('audioinput', 'default', 'dead'), device('audioinput', 'communications', 'dead')];
  const open = media.open;
  media.open = (kind, constraints) => {
    const track = open.call(media, kind, constraints);
    if (media.found[0].groupId === 'dead') setTimeout(() => track.dispatchEvent(new Event('ended')), 50);
    return track;
  };
  const devices = await started((one) => (one.on.video = false));
  await clock.run(60_000);
  assert.deepEqual([devices.faults, devices.tracks], [{ audio: 'ends' }, {}]);
  media.found = [device('audioinput', 'default', 'headset'), device('audioinput', 'communications', 'dead')];
  media.dispatchEvent(new Event('devicechange'));
  await clock.run(500);
  assert.deepEqual([devices.faults, devices.tracks.audio], [{}, media.made.at(-1)]);
});

test('a camera that ends now and then is asked for each time', async () => {
  const clock = new Clock();
  const devices = await started((one) => (one.on.audio = false));
  for (let turn = 0; turn < 9; turn += 1) {
    await clock.run(60_000);
    media.made.at(-1).dispatchEvent(new Event('ended'));
    await settled();
    assert.equal(devices.tracks.video, media.made.at(-1));
  }
});

test('the chosen camera or microphone is used again when it is back', async () => {
  for (const [kind, id] of [['video', 'desk'], ['audio', 'headset']]) {
    localStorage.setItem('rtapp.call.devices', JSON.stringify({ [kind]: id }));
    media.fails = (one) => one[kind]?.deviceId?.exact === id && fault('OverconstrainedError');
    const devices = await started();
    const [standIn, asks] = [devices.inUse(kind), media.asked.length];
    const clock = new Clock();
    media.dispatchEvent(new Event('devicechange')); // of another
    await clock.run(500);
    assert.deepEqual([devices.inUse(kind), media.asked.length], [standIn, asks]);
    media.fails = () => undefined;
    media.found = [...media.found, device(`${kind}input`, id)];
    media.dispatchEvent(new Event('devicechange'));
    await clock.run(500);
    assert.equal(devices.inUse(kind), id);
    devices.stop();
  }
});

test('a chosen speaker that is not there is left for the system to choose, and used when it is back', async () => {
  localStorage.setItem('rtapp.call.devices', '{"speaker":"headset"}');
  const devices = await started();
  assert.equal(devices.inUse('speaker'), '');
  media.found.push(device('audiooutput', 'headset'));
  await devices.refresh();
  assert.equal(devices.inUse('speaker'), 'headset');
});

// ---- faults --------------------------------------------------------------------------------------

test('each fault of a device has its name', async () => {
  const faults = {
    none: [fault('NotFoundError', 'Requested device not found'), fault('DevicesNotFoundError')],
    busy: [fault('NotReadableError', 'Could not start video source'), fault('TrackStartError')],
    system: [fault('NotAllowedError', 'Permission denied by system')],
    dismissed: [fault('NotAllowedError', 'Permission dismissed')],
    denied: [fault('NotAllowedError', 'The request is not allowed'), fault('PermissionDeniedError')],
    policy: [fault('SecurityError', 'Use of camera is not permitted')],
    failed: [fault('AbortError', 'Starting video failed'), fault('TypeError'), 'no error at all', undefined],
    gone: [fault('OverconstrainedError')],
  };
  for (const [name, all] of Object.entries(faults)) {
    for (const error of all) assert.equal(await faultOf(error, 'video'), name, String(error));
  }
});

test('a refusal that may be asked again was only put off', async () => {
  permission = 'prompt';
  assert.equal(await faultOf(fault('NotAllowedError'), 'audio'), 'dismissed');
  put('navigator', { permissions: { query: () => Promise.reject(new TypeError('no such permission')) } });
  assert.equal(await faultOf(fault('NotAllowedError'), 'audio'), 'denied', 'as in Firefox');
});

const FAULTS = 'insecure unsupported denied dismissed system policy none busy gone ends slow failed'.split(' ');

test('each fault has its own words, in each language, and advice where there is a way', async () => {
  const said = {};
  for (const language of ['en', 'tr']) {
    await setLanguage(language, false);
    const texts = ['audio', 'video'].flatMap((kind) => FAULTS.map((name) => faultText(kind, name)));
    assert.equal(new Set(texts).size, texts.length);
    said[language] = texts;
    assert.deepEqual(FAULTS.filter((name) => !advice(name)), ['insecure'], 'which has a link instead');
  }
  assert.ok(said.en.every((text) => !said.tr.includes(text)));
});

test('advice is for the system and the browser at hand', () => {
  const agents = {
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/150 Safari/537': ['Windows: open Settings', 'Click the icon'],
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605': ['macOS: open System', 'Safari › Settings'],
    'Mozilla/5.0 (Linux; Android 16) Chrome/150 Mobile Safari/537': ['Open Settings › Apps', 'Tap the icon'],
    'Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X)': ['Open Settings › Privacy', 'Website Settings'],
    'Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Firefox/150.0': ['Snap or Flatpak', 'crossed-out symbol'],
  };
  for (const [userAgent, [system, denied]] of Object.entries(agents)) {
    put('navigator', { ...navigator, userAgent, maxTouchPoints: 0 });
    assert.ok(advice('system').includes(system), `${userAgent}: ${advice('system')}`);
    assert.ok(advice('denied').includes(denied), `${userAgent}: ${advice('denied')}`);
  }
});

test('an iPad that calls itself a Mac is none', () => {
  const userAgent = 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/19 Safari/605';
  put('navigator', { ...navigator, userAgent, maxTouchPoints: 5 });
  assert.ok(advice('system').startsWith('Open Settings › Privacy'));
});

// ---- what is done to them ------------------------------------------------------------------------

test('the sound is as it is for music, in stereo, at once where the browser can, else by another track', async () => {
  const devices = await started();
  const first = devices.tracks.audio;
  await tune(devices, 'music');
  assert.equal(devices.tracks.audio, first);
  assert.deepEqual(first.applied.at(-1), {
    ...{ echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    ...{ channelCount: { ideal: 2 }, deviceId: { exact: 'mic' } },
  });
  first.obeys = false;
  const told = [];
  devices.addEventListener('track', ({ detail }) => told.push([detail.kind, devices.tracks.audio !== undefined, first.stopped]));
  await tune(devices, 'voice');
  assert.notEqual(devices.tracks.audio, first);
  assert.equal(media.asked.at(-1).audio.noiseSuppression, true);
  assert.deepEqual(told, [['audio', true, true]], 'the other took its place');
  assert.equal((await started()).sound, 'voice');
  await tune(devices, 'plain');
  assert.equal((await started()).sound, 'plain');
  localStorage.setItem('rtapp.call.sound', '"toString"');
  assert.equal((await started()).sound, 'voice');
});

test('the background is blurred where the camera can, also of the next one', async () => {
  const devices = await started();
  assert.equal(canBlur(devices), false);
  devices.tracks.video.capabilities = { backgroundBlur: [true, false] };
  assert.equal(canBlur(devices), true);
  devices.tracks.video.applied.push({ deviceId: { exact: 'front' } });
  await setBlur(devices, true);
  assert.deepEqual(devices.tracks.video.applied.at(-1), { deviceId: { exact: 'front' }, backgroundBlur: true });
  await devices.choose('video', 'back');
  assert.equal(media.asked.at(-1).video.backgroundBlur, true);
  devices.tracks.video.capabilities = { backgroundBlur: [true] }; // by the system, whatever one likes
  assert.equal(canBlur(devices), false);
});
