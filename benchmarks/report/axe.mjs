// Checks pages of `subtone report` in Chromium: axe-core's rules (WCAG 2.2 A and AA, and best practices) in light and dark, at
// the width of a phone and of a desktop; no sideways scrolling of the page; no request to anywhere; details opened.
//
//   npm install --no-save puppeteer-core axe-core
//   node axe.mjs RESULT.json PAGE.html...
import { readFileSync, writeFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import axe from "axe-core";
import puppeteer from "puppeteer-core";

const [out, ...pages] = process.argv.slice(2);
if (!out || !pages.length) {
  console.error("usage: node axe.mjs RESULT.json PAGE.html...");
  process.exit(2);
}
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});
const results = [];
for (const file of pages) {
  for (const [width, height] of [[390, 844], [1280, 900]]) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.newPage();
      await page.setBypassCSP(true); // for axe alone: the page's own policy lets no script in
      await page.setViewport({ width, height });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      const asked = [];
      const errors = [];
      page.on("request", (one) => {
        if (!/^(data|file):/.test(one.url())) asked.push(one.url());
      });
      page.on("pageerror", (one) => errors.push(one.message));
      await page.goto(pathToFileURL(resolve(file)).href);
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      const [inner, outer] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        document.documentElement.clientWidth,
      ]);
      await page.evaluate(axe.source);
      const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations", "incomplete"] }));
      results.push({
        page: basename(file),
        bytes: readFileSync(file).length,
        width,
        scheme,
        violations: found.violations.map((one) => ({
          rule: one.id,
          impact: one.impact,
          nodes: one.nodes.length,
          first: one.nodes[0].html.slice(0, 200),
          why: one.nodes[0].failureSummary,
        })),
        unsure: found.incomplete.map((one) => ({ rule: one.id, nodes: one.nodes.length })),
        passes: found.passes.length,
        overflow: inner - outer,
        requests: asked,
        errors,
      });
      await page.close();
    }
  }
}
await browser.close();
const bad = results.filter((one) => one.violations.length || one.overflow > 0 || one.requests.length || one.errors.length);
writeFileSync(out, JSON.stringify({ axe: axe.version, checks: results.length, failed: bad.length, results }, null, 1) + "\n");
for (const one of bad) console.log(JSON.stringify(one, null, 1));
console.log(`${results.length} checks, ${bad.length} failed`);
process.exit(bad.length ? 1 : 0);
