// What has to be true of every page, on the screen it is on now. Gives a list of what is not.
((touch, width) => {
  const wrong = [], all = [...document.querySelectorAll('body *')];
  const name = e => {
    const text = (e.textContent || '').trim().replace(/\s+/g, ' ').slice(0, 40);
    return '<' + e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + (e.getAttribute('class') ? '.' + e.getAttribute('class').replace(/ /g, '.') : '') + '> ' + JSON.stringify(text);
  };
  const boxed = e => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== 'hidden';
  const unseen = e => e.closest('.vh, .skip, symbol, [hidden], script, style, title');

  // nothing wider than the screen, no cell cut
  const page = document.documentElement;
  if (page.scrollWidth > width) {
    const out = all.filter(e => boxed(e) && !unseen(e) && e.getBoundingClientRect().right > width + 1);
    wrong.push('wider than the screen by ' + (page.scrollWidth - width) + ': ' + out.slice(-1).map(name));
  }
  for (const e of document.querySelectorAll('td, th, .tail, dd, .btn, .ver, .state, h1, h2, .say')) {
    if (boxed(e) && !unseen(e) && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline') wrong.push('cut: ' + name(e));
  }
  for (const cell of document.querySelectorAll('td')) {
    if (!boxed(cell)) continue;
    const c = cell.getBoundingClientRect(), card = cell.closest('.card')?.getBoundingClientRect();
    if (card && c.right > card.right + 1) wrong.push('leaves its card: ' + name(cell));
  }

  // contrast of every text against what is behind it
  const read = text => {
    const n = (text.match(/-?[\d.]+(e-?\d+)?%?/g) || []).map(parseFloat);
    if (text.startsWith('color(srgb')) return [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1];
    if (text.startsWith('rgb')) return [n[0], n[1], n[2], n[3] ?? 1];
    return null;
  };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  // both once per element: a page has thousands, and each asks for all above it
  const grounds = new Map(), opacities = new Map();
  const behind = e => {
    if (!e) return [255, 255, 255, 1];
    if (!grounds.has(e)) {
      const c = read(getComputedStyle(e).backgroundColor);
      grounds.set(e, c && c[3] === 1 ? c : c && c[3] > 0 ? over(c, behind(e.parentElement)) : behind(e.parentElement));
    }
    return grounds.get(e);
  };
  const opacity = e => {
    if (!e) return 1;
    if (!opacities.has(e)) opacities.set(e, +getComputedStyle(e).opacity * opacity(e.parentElement));
    return opacities.get(e);
  };
  const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const seen = new Set();
  for (const e of all) {
    if (!boxed(e) || unseen(e) || e.closest('[disabled]') || ![...e.childNodes].some(n => n.nodeType === 3 && n.nodeValue.trim())) continue;
    const style = getComputedStyle(e), ink = read(e.ownerSVGElement ? style.fill : style.color);
    if (!ink) { wrong.push('cannot read the colour of ' + name(e)); continue; }
    const ground = behind(e.ownerSVGElement ? e.ownerSVGElement.parentElement : e), value = ratio(over([...ink.slice(0, 3), ink[3] * opacity(e)], ground), ground);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    const told = e.tagName + e.className + value.toFixed(2);
    if (value < (large ? 3 : 4.5) && !seen.has(told)) { seen.add(told); wrong.push('contrast ' + value.toFixed(2) + ': ' + name(e)); }
  }

  // markup
  for (const e of document.querySelectorAll('[style]')) wrong.push('style attribute: ' + name(e));
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
    if (!e.labels?.length && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')) wrong.push('no label: ' + name(e));
  }
  for (const e of document.querySelectorAll('button, a[href], summary')) {
    if (!(e.textContent.trim() || e.getAttribute('aria-label'))) wrong.push('no name: ' + name(e));
  }
  for (const e of document.querySelectorAll('svg[role=img], [role=img]')) if (!e.getAttribute('aria-label')) wrong.push('no label: ' + name(e));
  const ids = new Set(); for (const e of document.querySelectorAll('[id]')) { if (ids.has(e.id)) wrong.push('id twice: ' + e.id); ids.add(e.id); }
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');

  // big enough for a finger; a link within a sentence is as high as its line
  if (touch) for (const e of document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea, summary')) {
    if (!boxed(e) || unseen(e)) continue;
    const inText = e.tagName === 'A' && getComputedStyle(e).display === 'inline' && [...e.parentNode.childNodes].some(n => n !== e && n.textContent.trim());
    const b = e.getBoundingClientRect();
    if (!inText && b.height < 35.5) wrong.push('too small for a finger, ' + b.height.toFixed(0) + ' px: ' + name(e));
  }
  return wrong;
})
