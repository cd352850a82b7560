/**
 * What the browser remembers for the site, where it does: storage may be switched off, full, or not for us.
 *
 * @typedef {() => Storage} GetStorage  may throw
 */

/**
 * @param {GetStorage} storage
 * @param {string} key
 * @returns {string | null} null where nothing is remembered
 */
export function recall(storage, key) {
  try {
    return storage().getItem(key);
  } catch {
    return null;
  }
}

/**
 * @param {GetStorage} storage
 * @param {string} key
 * @param {string | null} value  null: forget it
 * @returns {boolean} whether it is remembered
 */
export function remember(storage, key, value) {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, value);
    return true;
  } catch {
    return false;
  }
}
