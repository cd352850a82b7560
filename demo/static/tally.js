/** What became of a run of numbers: a plain account that knows nothing of sockets. */

export class Tally {
  /** @param {number} run */
  constructor(run) {
    this.run = run;
    this.sent = 0;
    this.repeated = 0;
    this.highest = 0;
    this.ended = false;
    /** @type {Set<number>} */
    this.seen = new Set();
  }

  get received() {
    return this.seen.size;
  }

  /** Numbers that were overtaken; once the run has ended, also those after the last that came. */
  get missing() {
    return Math.max(this.highest, this.ended ? this.sent : 0) - this.seen.size;
  }

  /** @param {number} number */
  receive(number) {
    if (this.seen.has(number)) this.repeated += 1;
    this.seen.add(number);
    this.highest = Math.max(this.highest, number);
  }

  /** @param {number} sent how many the server says it has pushed */
  report(sent) {
    this.sent = Math.max(this.sent, sent);
  }

  /** @param {number} sent */
  end(sent) {
    this.report(sent);
    this.ended = true;
  }
}
