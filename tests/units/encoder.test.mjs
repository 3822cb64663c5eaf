/** How much of a picture is sent to whom (`static/js/encoder.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cameraFor, captureFor, limit, limitAudio, refresh, screenFor, screenFps, soundFor, viewFor } from '../../static/js/encoder.js';

const limits = { maxHeight: 720, maxFps: 30 };
const at = (people, steps = 0, hasScreen = false) => ({ people, steps, hasScreen, limits });
const RUNG = { height: 360, fps: 24, kbps: 500 };

/** A sender that notes what it is told, and refuses it where `refuses` says so. */
class Sender {
  told = [];
  refuses = false;
  encodings = [{ rid: 'kept' }];

  constructor(width = 1280, height = 720) {
    this.track = { getSettings: () => ({ width, height }) };
  }

  getParameters() {
    return { encodings: this.encodings.map((one) => ({ ...one })) };
  }

  async setParameters(parameters, options) {
    this.told.push({ ...parameters, options });
    if (this.refuses) throw new Error('InvalidStateError');
  }

  /** The one encoding that it was told last. */
  get last() {
    return this.told.at(-1).encodings[0];
  }
}

test('the more people there are, the less each is sent', () => {
  const heights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100].map((people) => cameraFor(at(people)).height);
  assert.deepEqual(heights, [720, 720, 540, 540, 360, 360, 270, 270, 180, 180]);
  const captures = [2, 4, 6, 8, 9].map((people) => captureFor(people, limits));
  assert.deepEqual(
    captures.map(({ height, fps }) => [height, fps]),
    [[720, 30], [540, 30], [360, 24], [270, 15], [180, 10]],
  );
});

test('a machine that can do less goes down the ladder to its end', () => {
  const sent = [0, 1, 2, 3, 4, 9].map((steps) => cameraFor(at(6, steps)).kbps);
  assert.deepEqual(sent, [500, 250, 120, 50, 50, 50]);
});

test('a screen that is sent besides costs the camera a step', () => {
  assert.equal(cameraFor(at(2, 0, true)).height, 540);
  assert.equal(cameraFor(at(100, 3, true)).height, 90);
});

test('what is not shown is not sent, and what nobody has told is sent as ever', () => {
  assert.equal(cameraFor(at(2), null), null);
  assert.equal(screenFor(at(2), null), null);
  assert.deepEqual(cameraFor(at(2), undefined), { height: 720, fps: 30, kbps: 2_000 });
});

test('the smallest picture that fills the tile is sent, whichever side is the shorter', () => {
  const shown = (width, height, people = 2) => cameraFor(at(people), { width, height }).height;
  assert.deepEqual([shown(1600, 900), shown(1280, 720), shown(1280, 541)], [720, 720, 720]);
  assert.deepEqual([shown(960, 540), shown(960, 361), shown(320, 180)], [540, 540, 180]);
  assert.deepEqual([shown(320, 91), shown(160, 90), shown(20, 10)], [180, 90, 90]);
  assert.deepEqual([shown(200, 400), shown(400, 200)], [270, 270]);
  assert.equal(shown(1600, 900, 9), 180, 'a large tile gets no more than the call allows');
});

test('two get more than 720 lines and 30 pictures a second where that is allowed and shown', () => {
  const most = (maxHeight, maxFps = 60) => ({ ...at(2), limits: { maxHeight, maxFps } });
  const shown = (height, lines) => cameraFor(most(height), { width: 2 * lines, height: lines });
  assert.deepEqual(shown(2160, 2000), { height: 2160, fps: 60, kbps: 12_000 });
  assert.deepEqual(shown(2160, 1080), { height: 1080, fps: 60, kbps: 4_000 });
  assert.deepEqual(shown(1080, 2000), { height: 1080, fps: 60, kbps: 4_000 });
  assert.deepEqual(shown(900, 2000), { height: 900, fps: 60, kbps: 4_000 });
  assert.deepEqual(shown(1080, 540), { height: 540, fps: 30, kbps: 900 });
  assert.equal(cameraFor(most(2160, 30), { width: 4000, height: 2160 }).fps, 30);
  assert.equal(cameraFor(most(2160)).height, 720, 'nobody has told how large it is shown');
  assert.equal(cameraFor({ ...most(2160), people: 3 }, { width: 4000, height: 2160 }).height, 540);
  assert.equal(cameraFor({ ...most(1080), steps: 1 }, { width: 4000, height: 2160 }).height, 720);
  const captured = (lines, people = 2, limits = most(1080, 30).limits) => captureFor(people, limits, lines).height;
  assert.deepEqual([captured(0), captured(500), captured(721), captured(2160)], [720, 720, 1080, 1080]);
  assert.equal(captured(2160, 3), 540);
  assert.deepEqual(captureFor(2, most(2160).limits, 2160), { height: 2160, fps: 60 });
});

test('what this machine can not do is taken from what would be sent', () => {
  const sent = (steps) => cameraFor(at(2, steps), { width: 960, height: 540 }).height;
  assert.deepEqual([sent(0), sent(1), sent(2)], [540, 360, 270]);
});

test("the server's limits hold, and change no rate of bits", () => {
  const few = { maxHeight: 400, maxFps: 12 };
  assert.deepEqual(cameraFor({ ...at(2), limits: few }), { height: 400, fps: 12, kbps: 2_000 });
  assert.deepEqual(captureFor(2, few), { height: 400, fps: 12 });
  assert.deepEqual(captureFor(9, few), { height: 180, fps: 10 });
});

test('a screen loses pictures rather than lines', () => {
  const kbps = [2, 4, 8, 12].map((people) => screenFor(at(people)).kbps);
  assert.deepEqual(kbps, [3_000, 3_000, 1_500, 1_000]);
  const fps = [0, 1, 2, 3].map((steps) => screenFor(at(2, steps)).fps);
  assert.deepEqual(fps, [15, 12, 8, 4]);
  assert.equal(screenFor(at(12, 3)).height, Infinity);
});

test('a film on a screen is sent smooth, up to what the server allows', () => {
  const film = (maxFps) => screenFor({ ...at(2), hasMotion: true, limits: { ...limits, maxFps } });
  assert.deepEqual([film(30).fps, film(60).fps, film(10).fps, film(30).kbps], [30, 60, 10, 6_000]);
  assert.deepEqual([screenFps(limits, true), screenFps(limits, false)], [30, 15]);
});

test('whoever has little data asks for small pictures and sends such; in audio only there are no cameras', () => {
  const shown = { camera: { width: 1280, height: 720 }, screen: { width: 800, height: 600 } };
  const little = { width: 360, height: 180 };
  assert.deepEqual(viewFor(shown, 'all'), shown);
  assert.deepEqual(viewFor(shown, 'low'), { camera: little, screen: little });
  assert.deepEqual(viewFor({ camera: undefined, screen: null }, 'low'), { camera: little, screen: null });
  assert.deepEqual(viewFor(shown, 'audio'), { camera: null, screen: little });
  const asked = viewFor(shown, 'low');
  assert.equal(cameraFor(at(2), asked.camera).kbps, 120);
  assert.equal(cameraFor(at(2), viewFor({ camera: { width: 120, height: 90 } }, 'low').camera).kbps, 50);
  assert.deepEqual(screenFor(at(2), asked.screen), { height: Infinity, fps: 5, kbps: 500 });
  assert.deepEqual([cameraFor({ ...at(2), isLow: true }, shown.camera).kbps, cameraFor({ ...at(9), isLow: true }).kbps], [120, 120]);
  assert.equal(screenFor({ ...at(2), isLow: true }, shown.screen).kbps, 500);
  assert.equal(screenFor(at(2), shown.screen).kbps, 3_000);
});

test('music takes more than speech, and either half of it where data is little', () => {
  const all = ['all', 'low', 'audio'].flatMap((data) => [soundFor(false, data), soundFor(true, data)]);
  assert.deepEqual(all, [48, 128, 24, 64, 24, 64]);
});

test('a sender scales its picture to the rung, and never up', async () => {
  const scales = [[1280, 720], [720, 1280], [640, 360], [320, 180]].map(async ([width, height]) => {
    const sender = new Sender(width, height);
    await limit(sender, RUNG);
    return sender.last.scaleResolutionDownBy;
  });
  assert.deepEqual(await Promise.all(scales), [2, 2, 1, 1]);
  const screen = new Sender(2560, 1440);
  await limit(screen, screenFor(at(2)), 'maintain-resolution');
  assert.equal(screen.last.scaleResolutionDownBy, 1);
  const empty = new Sender();
  empty.track = null;
  await limit(empty, RUNG);
  assert.equal(empty.last.scaleResolutionDownBy, 1);
});

test('a limit is in the units of the standard and leaves the rest of the encoding', async () => {
  const sender = new Sender();
  await limit(sender, RUNG);
  assert.deepEqual(sender.told, [
    {
      encodings: [{ rid: 'kept', active: true, maxBitrate: 500_000, maxFramerate: 24, scaleResolutionDownBy: 2 }],
      degradationPreference: 'balanced',
      options: undefined,
    },
  ]);
  await limit(sender, RUNG, 'maintain-resolution');
  assert.equal(sender.told[1].degradationPreference, 'maintain-resolution');
});

test('the same limit is told once, another one at once', async () => {
  const [sender, other] = [new Sender(), new Sender()];
  await Promise.all([limit(sender, RUNG), limit(sender, RUNG), limit(other, RUNG)]);
  await limit(sender, { ...RUNG });
  assert.deepEqual([sender.told.length, other.told.length], [1, 1]);
  await limit(sender, { ...RUNG, kbps: 250 });
  await limit(sender, null);
  await limit(sender, RUNG);
  assert.deepEqual(
    sender.told.map(({ encodings }) => encodings[0].active && encodings[0].maxBitrate),
    [500_000, 250_000, false, 500_000],
  );
  sender.track = { getSettings: () => ({ width: 640, height: 360 }) };
  await limit(sender, RUNG);
  assert.equal(sender.last.scaleResolutionDownBy, 1, 'another camera is another limit');
});

test('a limit that was refused is told again', async () => {
  const sender = new Sender();
  sender.refuses = true;
  await limit(sender, RUNG);
  await limit(sender, RUNG);
  assert.equal(sender.told.length, 2);
  sender.refuses = false;
  await limit(sender, RUNG);
  await limit(sender, RUNG);
  assert.equal(sender.told.length, 3);
});

test('a sender that is not negotiated yet is told once it is', async () => {
  const sender = new Sender();
  for (const encodings of [undefined, []]) {
    sender.getParameters = () => ({ encodings });
    await limit(sender, RUNG);
  }
  assert.equal(sender.told.length, 0);
  delete sender.getParameters;
  await limit(sender, RUNG);
  assert.equal(sender.told.length, 1);
});

test('speech goes before pictures', async () => {
  const sender = new Sender();
  await limitAudio(sender);
  await limitAudio(sender);
  const encoding = { rid: 'kept', maxBitrate: 48_000, priority: 'high', networkPriority: 'high' };
  assert.deepEqual(sender.told, [{ encodings: [encoding], options: undefined }]);
});

test('a whole picture is asked for of each encoding, and a browser that can not is no fault', async () => {
  const sender = new Sender();
  sender.encodings = [{}, {}];
  await refresh(sender);
  assert.deepEqual(sender.told[0].options, { encodingOptions: [{ keyFrame: true }, { keyFrame: true }] });
  sender.refuses = true;
  await refresh(sender);
  assert.equal(sender.told.length, 2);
});
