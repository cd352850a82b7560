/**
 * A control of a form, as far as anybody asks it.
 *
 * @param {string} name
 * @param {{localName?: string, type?: string, disabled?: boolean, value?: string}} [more]  value: of its attribute
 * @returns {any}
 */
export function control(name, { localName = "input", type = "text", disabled = false, value } = {}) {
  return {
    name,
    localName,
    type,
    matches: (/** @type {string} */ selector) => selector === ":disabled" && disabled,
    hasAttribute: (/** @type {string} */ attribute) => attribute === "value" && value !== undefined,
  };
}

/** An element that shows something. */
export class Place {
  textContent = "";
  /** @type {Record<string, string>} */
  attributes = {};

  /**
   * @param {string} name
   * @param {string} value
   */
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
}

/** A form without a document: what it would submit is given by hand. */
export class Form extends EventTarget {
  dataset;
  elements;
  submitted;
  /** @type {{max: number, value: number}[]} */
  bars = [];
  /** @type {Place | null} where its outcome is shown */
  outcome = null;

  /**
   * @param {string} delegate
   * @param {any[]} elements
   * @param {[string, string | File][]} submitted
   */
  constructor(delegate, elements, submitted) {
    super();
    this.dataset = { pagewsSend: delegate };
    this.elements = elements;
    this.submitted = submitted;
  }

  querySelectorAll() {
    return this.bars;
  }

  querySelector() {
    return this.outcome;
  }
}

/**
 * Lets `new FormData(form)` read such forms while a test runs.
 *
 * @param {import("node:test").TestContext} context
 */
export function readForms(context) {
  const { FormData } = globalThis;
  globalThis.FormData = class extends FormData {
    /** @param {any} [form] */
    constructor(form) {
      super();
      for (const [name, value] of form?.submitted ?? []) this.append(name, value);
    }
  };
  context.after(() => {
    globalThis.FormData = FormData;
  });
}
