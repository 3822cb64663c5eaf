// Drives one page of Firefox for the tests: a JSON command a line in, a JSON answer a line out.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const [folder, executablePath, script] = process.argv.slice(2);
const puppeteer = createRequire(`${folder}/`)('puppeteer-core');
const browser = await puppeteer.launch({
  browser: 'firefox',
  executablePath,
  headless: true,
  // A profile of one's own judges certificates by itself.
  userDataDir: process.env.FIREFOX_PROFILE,
  acceptInsecureCerts: !process.env.FIREFOX_PROFILE,
  extraPrefsFirefox: {
    'media.navigator.permission.disabled': true,
    'media.navigator.streams.fake': true,
    'media.autoplay.default': 0,
    'media.peerconnection.ice.obfuscate_host_addresses': false,
    'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false,
    // Painting in software, and processes for pages to come, cost more than all else.
    'layout.frame_rate': 15,
    'dom.ipc.processPrelaunch.enabled': false,
  },
});
const page = await browser.newPage();
page.setDefaultTimeout(120_000);
await page.evaluateOnNewDocument(script);
const troubles = [];
page.on('pageerror', (error) => troubles.push(String(error)));
page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));

const acts = {
  goto: (url) => page.goto(url).then(() => null),
  wait: (selector) => page.waitForSelector(selector).then(() => null),
  click: (selector) => page.click(selector),
  fill: (selector, text) => page.$eval(selector, (field, value) => (field.value = value), text),
  evaluate: (source, argument) => page.evaluate(`(async () => {
    const result = (${source});
    return typeof result === 'function' ? result(${JSON.stringify(argument ?? null)}) : result;
  })()`),
  troubles: () => troubles,
  close: () => browser.close(),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { act, args } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ value: (await acts[act](...args)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
  if (act === 'close') process.exit();
}
