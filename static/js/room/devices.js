/** Cameras, microphones and screens, and why there is none. */

/**
 * What hinders: the page isn't on HTTPS, the browser can't, the reader or a policy said no, there is
 * no such device, another program has it.
 * @typedef {'insecure' | 'unsupported' | 'denied' | 'none' | 'busy' | 'unknown'} Hindrance
 */

/** @type {Record<string, Hindrance>} */
const BY_NAME = {
  NotAllowedError: 'denied',
  SecurityError: 'denied',
  NotFoundError: 'none',
  OverconstrainedError: 'none',
  NotReadableError: 'busy',
  AbortError: 'busy',
};

/** @param {unknown} error @returns {Hindrance} */
export function hindrance(error) {
  if (!isSecureContext) return 'insecure';
  if (!navigator.mediaDevices) return 'unsupported';
  return (error instanceof DOMException && BY_NAME[error.name]) || 'unknown';
}

/**
 * Open a camera or a microphone. @throws what `hindrance` names
 * @param {'audio' | 'video'} kind
 * @param {MediaTrackConstraints} [constraints]
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openDevice(kind, constraints = {}) {
  const stream = await navigator.mediaDevices.getUserMedia({ [kind]: constraints });
  return stream.getTracks()[0];
}

/** @param {{ height: number, fps: number }} capture @returns {MediaTrackConstraints} */
export const cameraConstraints = ({ height, fps }) => ({
  height: { ideal: height },
  width: { ideal: Math.round((height * 16) / 9) },
  frameRate: { ideal: fps, max: fps },
});
