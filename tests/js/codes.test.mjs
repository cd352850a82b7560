import assert from "node:assert/strict";
import { test } from "node:test";
import { afterClose, delayOf, retryAfter } from "../../static/codes.js";
import { Backoff } from "../../static/backoff.js";

test("what follows each close code", () => {
  const back = [1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 4000, 4002, 4004, 4008, 4013, 4499];
  const never = [1002, 1003, 1007, 1010, 4501, 4502, 4504, 4509, 4999];
  for (const code of back) assert.equal(afterClose(code), "back", String(code));
  for (const code of never) assert.equal(afterClose(code), "never", String(code));
  for (const code of [4500, 4503]) assert.equal(afterClose(code), "renew", String(code));
});

test("the delay at the end of a reason", () => {
  assert.equal(retryAfter("draining; retry=3.5"), 3.5);
  assert.equal(retryAfter("retry=12"), 12);
  assert.equal(retryAfter("retry=999999999"), 3600);
  for (const reason of ["", "retry=", "retry=x", "retry=1.2.3", "retry=5 later", "noretry=5", "retry=-1"]) {
    assert.equal(retryAfter(reason), 0, reason);
  }
});

test("a Retry-After in seconds", () => {
  assert.equal(delayOf("30"), 30);
  for (const value of [null, "", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9", "-5"]) assert.equal(delayOf(value), 0);
});

test("back-off is full jitter that doubles from 0.2 s to 20 s", () => {
  const backoff = new Backoff(() => 1);
  const bounds = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(bounds, [200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000]);
  backoff.reset();
  assert.equal(backoff.next(), 200);
  assert.equal(new Backoff(() => 0).next(), 0);
});
