/**
 * How much of a picture is sent to whom. A mesh has an encoder per receiver, so each gets what it
 * shows; the more people there are, the less each gets, since everybody sends to everybody.
 */

/** @typedef {{ height: number, fps: number, kbps: number }} Rung `height` is of the shorter side */
/** @typedef {import('./peer.js').Size} Size */

/** @type {readonly Rung[]} */
const LADDER = [
  { height: 720, fps: 30, kbps: 2_000 },
  { height: 540, fps: 30, kbps: 900 },
  { height: 360, fps: 24, kbps: 500 },
  { height: 270, fps: 15, kbps: 250 },
  { height: 180, fps: 10, kbps: 120 },
  { height: 90, fps: 5, kbps: 50 },
];
const LAST = LADDER.length - 1;
const SCREEN = { fps: 10, kbps: 1_500 };
const AUDIO_KBPS = 48;

/** Where a call of so many begins on the ladder. @param {number} people */
const first = (people) => [2, 4, 6, 8].filter((most) => people > most).length;

/**
 * What a camera is to deliver.
 * @param {number} people
 * @param {{ maxHeight: number, maxFps: number }} limits
 */
export function captureFor(people, { maxHeight, maxFps }) {
  const { height, fps } = LADDER[first(people)];
  return { height: Math.min(height, maxHeight), fps: Math.min(fps, maxFps) };
}

/**
 * @typedef {object} Situation
 * @property {number} people in the call
 * @property {number} steps down the ladder, since this machine can't do more
 * @property {boolean} hasScreen that is sent besides
 * @property {{ maxHeight: number, maxFps: number }} limits
 */

/**
 * What to send of a camera; null: nothing, since it isn't shown.
 * @param {Situation} situation
 * @param {Size | null | undefined} shown
 * @returns {Rung | null}
 */
export function cameraFor({ people, steps, hasScreen, limits }, shown) {
  if (shown === null) return null;
  const start = Math.min(LAST, first(people) + steps + (hasScreen ? 1 : 0));
  const wanted = shown ? Math.min(shown.width, shown.height) : LADDER[start].height;
  let at = start;
  while (at < LAST && LADDER[at + 1].height >= wanted) at += 1;
  const { height, fps, kbps } = LADDER[at];
  return { height: Math.min(height, limits.maxHeight), fps: Math.min(fps, limits.maxFps), kbps };
}

/**
 * What to send of a screen: text stays sharp, so it loses pictures rather than lines.
 * @param {Situation} situation
 * @param {Size | null | undefined} shown
 * @returns {Rung | null}
 */
export function screenFor({ people, steps }, shown) {
  if (shown === null) return null;
  const share = 1 / (1 + Math.max(0, people - 4) / 4);
  const fps = Math.max(3, SCREEN.fps - 3 * steps);
  return { height: Infinity, fps, kbps: Math.round(SCREEN.kbps * share) };
}

/** What each sender was told last. @type {WeakMap<RTCRtpSender, string>} */
const told = new WeakMap();

/**
 * Limit a sender.
 * @param {RTCRtpSender} sender
 * @param {Rung | null} rung
 * @param {'balanced' | 'maintain-resolution'} [preference] what is kept when it can't be both
 */
export function limit(sender, rung, preference = 'balanced') {
  const settings = sender.track?.getSettings();
  const side = Math.min(settings?.width ?? 0, settings?.height ?? 0);
  const encoding = rung
    ? {
        active: true,
        maxBitrate: rung.kbps * 1_000,
        maxFramerate: rung.fps,
        scaleResolutionDownBy: Math.max(1, side / rung.height),
      }
    : { active: false };
  return apply(sender, encoding, preference);
}

/** Speech goes before pictures. @param {RTCRtpSender} sender */
export function limitAudio(sender) {
  return apply(sender, { maxBitrate: AUDIO_KBPS * 1_000, priority: 'high', networkPriority: 'high' });
}

/**
 * Send a whole picture now. A receiver that missed a part asks for one every three seconds only
 * (Chromium); browsers that don't know the option wait for that.
 * @param {RTCRtpSender} sender
 */
export async function refresh(sender) {
  const parameters = sender.getParameters();
  const encodingOptions = parameters.encodings?.map(() => ({ keyFrame: true }));
  await /** @type {any} */ (sender).setParameters(parameters, { encodingOptions }).catch(() => undefined);
}

/**
 * @param {RTCRtpSender} sender
 * @param {RTCRtpEncodingParameters} encoding
 * @param {string} [preference]
 */
async function apply(sender, encoding, preference) {
  const wanted = JSON.stringify([encoding, preference]);
  const parameters = sender.getParameters();
  if (told.get(sender) === wanted || !parameters.encodings?.length) return;
  told.set(sender, wanted);
  Object.assign(parameters.encodings[0], encoding);
  if (preference) Object.assign(parameters, { degradationPreference: preference });
  await sender.setParameters(parameters).catch(() => {
    told.delete(sender); // changed or closed meanwhile: the next time is soon
  });
}
