// Drives the sample preference page in a real browser, and prints what it saw.
// Usage: node drive.mjs http://127.0.0.1:8080 /usr/bin/chromium
import { chromium } from "playwright-core";
import assert from "node:assert/strict";

const [base, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const failures = [];
try {
  const page = await browser.newPage();
  page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") failures.push(m.text()); });
  page.on("pageerror", (e) => failures.push(String(e)));
  await page.goto(base + "/demo");
  await page.waitForSelector("body[data-ready=true]");
  const boxes = page.locator("#purposes input[type=checkbox]");
  assert.equal(await boxes.count(), 4);
  assert.equal(await page.locator("#purposes input:checked").count(), 0);
  console.log("nothing is ticked at first");
  assert.equal(await page.locator(".purpose", { hasText: "version" }).count(), 4, "each purpose shows its notice's version");

  const id = "marketing.email";
  const box = page.locator(`input[data-purpose="${id}"]`);
  const answer = page.locator(".purpose", { has: box }).locator(".answer");
  const told = (type) => page.locator(`#deliveries li[data-purpose="${id}"][data-type="${type}"][data-signature="valid"]`);

  await box.check();
  await page.locator(".purpose", { has: box }).locator('.answer[data-status="granted"][data-allowed="true"]').waitFor();
  const subject = await page.locator("#subject").textContent();
  assert.equal((await decision(subject, id)).allowed, true);
  console.log("newsletter ticked: granted, allowed");
  await told("consent.granted").waitFor();
  console.log("receiver was told consent.granted, signature valid");

  await box.uncheck();
  await page.locator(".purpose", { has: box }).locator('.answer[data-status="withdrawn"][data-allowed="false"]').waitFor();
  const denied = await decision(subject, id);
  assert.equal(denied.allowed, false);
  assert.equal(denied.status, "withdrawn");
  console.log("newsletter unticked: withdrawn, denied");
  await told("consent.withdrawn").waitFor();
  console.log("receiver was told consent.withdrawn, signature valid");

  await page.reload();
  await page.waitForSelector("body[data-ready=true]");
  assert.equal(await box.isChecked(), false, "a reload shows what holds");

  await page.click("#accept-all");
  await page.waitForFunction(() => document.querySelectorAll('.answer[data-status="granted"]').length === 4);
  console.log("accept all: every purpose granted");
  await page.click("#refuse-all");
  await page.waitForFunction(() => document.querySelectorAll('.answer[data-status="refused"]').length === 4);
  console.log("refuse all: every purpose refused");
  await answer.waitFor();
  assert.deepEqual(failures, []);
  console.log("no message on the console");
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
} finally {
  await browser.close();
}

async function decision(subject, purpose) {
  const answer = await fetch(`${base}/v1/decisions?subject=${encodeURIComponent(subject)}&purpose=${purpose}&jurisdiction=IE`);
  assert.equal(answer.status, 200);
  return answer.json();
}
