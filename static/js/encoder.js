/**
 * How much of a picture is sent to whom. A mesh has an encoder per receiver, so each gets what it
 * shows; the more people there are, the less each gets, since everybody sends to everybody.
 */

/** @typedef {{ height: number, fps: number, kbps: number }} Rung `height` is of the shorter side */
/** @typedef {import('./peer.js').Size} Size */

/** @type {readonly Rung[]} */
const LADDER = [
  { height: 2160, fps: 60, kbps: 12_000 },
  { height: 1440, fps: 60, kbps: 7_000 },
  { height: 1080, fps: 60, kbps: 4_000 },
  { height: 720, fps: 60, kbps: 2_000 },
  { height: 540, fps: 30, kbps: 900 },
  { height: 360, fps: 24, kbps: 500 },
  { height: 270, fps: 15, kbps: 250 },
  { height: 180, fps: 10, kbps: 120 },
  { height: 90, fps: 5, kbps: 50 },
];
const LAST = LADDER.length - 1;
const HD = 3; // from where on a call of many goes down; above it only for two
const TEXT = { fps: 15, kbps: 3_000 };
const MOTION = { fps: 60, kbps: 6_000 };
const VOICE_KBPS = 48;
const MUSIC_KBPS = 128;
/** Of a screen that is shown small, where nobody reads, or to somebody with little data. */
const SMALL = { lines: 270, fps: 5, kbps: 500 };
const LOW = 7; // from where on the ladder whoever has little data sends

/** @typedef {{ maxHeight: number, maxFps: number }} Limits */
/** How much one wants to send and get: everything, little, or no pictures. @typedef {'all' | 'low' | 'audio'} Data */

/** Of the shorter side; 0 where it isn't known. @param {{ width?: number, height?: number } | null | undefined} size */
export const linesOf = (size) => Math.min(size?.width ?? 0, size?.height ?? 0);

/** Where a call of so many begins on the ladder. @param {number} people @param {Limits} limits */
function first(people, { maxHeight }) {
  const crowd = [2, 4, 6, 8].filter((most) => people > most).length;
  return crowd ? HD + crowd : LADDER.slice(1, HD + 1).filter(({ height }) => height >= maxHeight).length;
}

/**
 * The smallest picture that has so many lines, from a rung down to another.
 * @param {number} from
 * @param {number} to
 * @param {number} lines
 */
function down(from, to, lines) {
  let at = from;
  while (at < to && LADDER[at + 1].height >= lines) at += 1;
  return at;
}

/**
 * What a camera is to deliver.
 * @param {number} people
 * @param {Limits} limits
 * @param {number} [lines] the most that anybody shows: a camera is not changed for less than 720
 */
export function captureFor(people, limits, lines = 0) {
  const { height, fps } = LADDER[down(first(people, limits), HD, lines)];
  return { height: Math.min(height, limits.maxHeight), fps: Math.min(fps, limits.maxFps) };
}

/**
 * @typedef {object} Situation
 * @property {number} people in the call
 * @property {number} steps down from what would be sent, since this machine can't do more
 * @property {boolean} hasScreen that is sent besides
 * @property {boolean} [hasMotion] the screen shows a film rather than text
 * @property {boolean} [isLow] as little as can be is to be sent
 * @property {Limits} limits
 */

/**
 * What to send of a camera; null: nothing, since it isn't shown.
 * @param {Situation} situation
 * @param {Size | null | undefined} shown
 * @returns {Rung | null}
 */
export function cameraFor({ people, steps, hasScreen, limits, isLow }, shown) {
  if (shown === null) return null;
  const most = first(people, limits) + (hasScreen ? 1 : 0);
  const enough = shown ? down(most, LAST, linesOf(shown)) : Math.max(most, HD);
  const { height, fps, kbps } = LADDER[Math.min(LAST, Math.max(enough + steps, isLow ? LOW : 0))];
  return { height: Math.min(height, limits.maxHeight), fps: Math.min(fps, limits.maxFps), kbps };
}

/**
 * What to send of a screen; all its lines, as text has to be read.
 * @param {Situation} situation
 * @param {Size | null | undefined} shown
 * @returns {Rung | null}
 */
export function screenFor({ people, steps, limits, hasMotion, isLow }, shown) {
  if (shown === null) return null;
  const isSmall = isLow || (shown && linesOf(shown) <= SMALL.lines);
  const most = isSmall ? SMALL : hasMotion ? MOTION : TEXT;
  const share = 1 / (1 + Math.max(0, people - 4) / 4);
  const fps = Math.ceil(Math.min(most.fps, limits.maxFps) * (1 - steps / 4));
  return { height: Infinity, fps, kbps: Math.round(most.kbps * share) };
}

/**
 * What to ask of the others, by how large they are shown here.
 * @param {import('./peer.js').View} view
 * @param {Data} data
 * @returns {import('./peer.js').View}
 */
export function viewFor({ camera, screen }, data) {
  if (data === 'all') return { camera, screen };
  /** @param {Size | null | undefined} shown */
  const small = (shown) => (shown === null ? null : { width: LADDER[LOW].height * 2, height: Math.min(LADDER[LOW].height, linesOf(shown) || Infinity) });
  return { camera: data === 'audio' ? null : small(camera), screen: small(screen) };
}

/** How often a screen is to be looked at. @param {Limits} limits @param {boolean} hasMotion */
export const screenFps = ({ maxFps }, hasMotion) => Math.min(maxFps, (hasMotion ? MOTION : TEXT).fps);

/** What a microphone is sent with. @param {boolean} isMusic @param {Data} data */
export const soundFor = (isMusic, data) => (isMusic ? MUSIC_KBPS : VOICE_KBPS) / (data === 'all' ? 1 : 2);

/** What each sender was told last. @type {WeakMap<RTCRtpSender, string>} */
const told = new WeakMap();

/**
 * Limit a sender.
 * @param {RTCRtpSender} sender
 * @param {Rung | null} rung
 * @param {'balanced' | 'maintain-resolution'} [preference] what is kept when it can't be both
 */
export function limit(sender, rung, preference = 'balanced') {
  const encoding = rung
    ? {
        active: true,
        maxBitrate: rung.kbps * 1_000,
        maxFramerate: rung.fps,
        scaleResolutionDownBy: Math.max(1, linesOf(sender.track?.getSettings()) / rung.height),
      }
    : { active: false };
  return apply(sender, encoding, preference);
}

/** Sound goes before pictures. @param {RTCRtpSender} sender @param {number} [kbps] */
export function limitAudio(sender, kbps = VOICE_KBPS) {
  return apply(sender, { maxBitrate: kbps * 1_000, priority: 'high', networkPriority: 'high' });
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
  if (told.get(sender) === wanted) return;
  const parameters = sender.getParameters(); // which waits for the browser's other threads
  if (!parameters.encodings?.length) return;
  told.set(sender, wanted);
  Object.assign(parameters.encodings[0], encoding);
  if (preference) Object.assign(parameters, { degradationPreference: preference });
  await sender.setParameters(parameters).catch(() => {
    told.delete(sender); // changed or closed meanwhile: the next time is soon
  });
}
