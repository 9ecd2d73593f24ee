// The sign-in: asks for an access token where a node refuses what goes without one, or with one that it
// does not know. Where a token is good and lacks a right, the page itself says so.

import {send} from './api.js';
import {el, setText} from './dom.js';
import * as parts from './parts.js';
import {current, onRefused, onToken, signIn, wantsToken} from './token.js';

// Another tab that has a token hands it over within this time.
const HAND_OVER_MS = 300;
const LOCAL = /^(localhost|127(\.\d+){3}|\[::1\])$/;

// `button` signs out, and in again where the form was closed.
export function begin(button) {
  let open = null, isPutOff = false, why = '';

  function show() {
    if (open) return;
    const mine = open = new AbortController();
    parts.form({
      title: 'Sign in',
      effect: [why,
        el('p', {class: 'hint'}, 'Whoever runs the cluster makes a token: ', el('code', null, 'hstore acl token create'), '. Paste its SecretID. It stays in the memory of this browser\'s open tabs, and is gone with the last of them.'),
        location.protocol === 'https:' || LOCAL.test(location.hostname) ? null
          : parts.note('warn', el('p', null, 'This page is not encrypted: whoever is between this browser and the node can read the token. Use https, or a tunnel to the node\'s machine.')),
      ].filter(Boolean),
      fields: [{name: 'token', label: 'Access token', kind: 'password', required: true, check: fault}],
      action: 'Sign in', signal: mine.signal,
      run: ({token}) => known(token.trim()),
    }).then((values) => {
      open = null;
      if (values) signIn(values.token.trim());
      else isPutOff = !mine.signal.aborted;
    });
  }

  function look() {
    button.hidden = !current() && !why;
    setText(button, current() ? 'Sign out' : 'Sign in');
  }

  button.addEventListener('click', () => { if (current()) signIn(''); else show(); });
  onRefused(({used, text}) => {
    if (used && !/ACL not found/.test(text)) return;
    why = used ? 'The token of this tab is not known any more: it has ended, or was revoked. Sign in with another.'
      : 'This cluster answers only to those who show a token.';
    look();
    if (!isPutOff) setTimeout(() => { if (current() === used && !isPutOff) show(); }, used ? 0 : HAND_OVER_MS);
  });
  onToken(() => {
    why = '';
    isPutOff = false;
    look();
    if (open) open.abort();
  });
  look();
}

function fault(text) {
  if (text.trim().startsWith('hs1.')) return 'this is a join token, which lets a node in; an access token is asked for';
  return /^[!-~]{1,512}$/.test(text.trim()) ? '' : 'a token has no spaces and only letters, digits and signs';
}

async function known(token) {
  try {
    await send('GET', '/v1/ui/me', undefined, {token});
  } catch (error) {
    if (!wantsToken(error.status, error.body)) throw error;
    throw new Error('The cluster does not know this token: it is mistyped, has ended, or was revoked. Paste the whole SecretID.');
  }
}
