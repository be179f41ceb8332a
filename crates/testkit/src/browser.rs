//! A real headless Chromium, driven by the DevTools protocol over two pipes.
//!
//! ```text
//!  Browser ── stdin ──▶ chromium (fd 3)     {"id":1,"method":…}\0
//!          ◀─ stdout ── chromium (fd 4)     {"id":1,"result":…}\0  and events
//! ```
//! Needs no port and no WebSocket. Everything a page complains about (script errors, console errors,
//! violations of its policy, failed requests) is kept, and [`Page::troubles`] gives it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::until::until;

const PROGRAMS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];
const LIMIT: Duration = Duration::from_secs(30);

/// A running browser with a profile of its own, both gone when it is dropped.
pub struct Browser {
    child: Child,
    wire: Arc<Wire>,
    _profile: tempfile::TempDir,
}

/// One tab.
pub struct Page {
    wire: Arc<Wire>,
    session: String,
    target: String,
}

struct Wire {
    pipe: Mutex<ChildStdin>,
    next: AtomicU64,
    inbox: Mutex<Inbox>,
    news: Condvar,
}

#[derive(Default)]
struct Inbox {
    answers: HashMap<u64, Value>,
    /// Per session.
    troubles: HashMap<String, Vec<String>>,
    loads: HashMap<String, u64>,
    is_gone: bool,
}

impl Browser {
    pub fn start() -> Browser {
        let program = PROGRAMS
            .iter()
            .find(|program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success()))
            .expect("chromium is not installed: run `cargo xtask test`, which sets it up");
        let profile = tempfile::Builder::new().prefix("switchyard-browser-").tempdir().expect("a directory");
        // The shell puts our pipes where the browser expects them, so that no unsafe code has to.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null", program])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts");
        let wire = Arc::new(Wire {
            pipe: Mutex::new(child.stdin.take().expect("piped")),
            next: AtomicU64::new(1),
            inbox: Mutex::default(),
            news: Condvar::new(),
        });
        let (reader, stdout) = (wire.clone(), child.stdout.take().expect("piped"));
        std::thread::spawn(move || reader.read(stdout));
        Browser { child, wire, _profile: profile }
    }

    /// A tab on an empty page, with storage of its own.
    pub fn page(&self) -> Page {
        let context = self.wire.call("", "Target.createBrowserContext", json!({}));
        let target = self.wire.call(
            "",
            "Target.createTarget",
            json!({ "url": "about:blank", "browserContextId": context["browserContextId"] }),
        );
        let target = text(&target["targetId"]);
        let attached = self.wire.call("", "Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let page = Page { wire: self.wire.clone(), session: text(&attached["sessionId"]), target };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its own helpers; killed, it would leave them.
        if self.wire.send("", "Browser.close", json!({})).is_some() {
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && self.child.try_wait().ok().flatten().is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.wire.send("", "Target.closeTarget", json!({ "targetId": self.target }));
    }
}

/// What a page is looked at on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    pub width: u32,
    pub is_dark: bool,
    /// A finger instead of a mouse.
    pub is_touch: bool,
}

impl Page {
    /// Goes there and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        let before = self.loads();
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {}", answer["errorText"]);
        self.loaded_since(before);
    }

    /// Does something that leads to another page, and waits for that.
    #[track_caller]
    pub fn leads(&self, action: impl FnOnce()) {
        let before = self.loads();
        action();
        self.loaded_since(before);
    }

    #[track_caller]
    fn loaded_since(&self, before: u64) {
        until("the page is loaded", LIMIT, || if self.loads() > before { Ok(()) } else { Err(self.url()) });
    }

    fn loads(&self) -> u64 {
        self.wire.inbox().loads.get(&self.session).copied().unwrap_or(0)
    }

    pub fn screen(&self, screen: Screen) {
        let height = if screen.width < 600 { 844 } else { 900 };
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": screen.width, "height": height, "deviceScaleFactor": 1, "mobile": screen.is_touch }),
        );
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": screen.is_touch }));
        let scheme = if screen.is_dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Whether scripts run on pages opened from now on.
    pub fn scripts(&self, are_on: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !are_on }));
    }

    /// The value of an expression, which may be a promise.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        let answer = self
            .call("Runtime.evaluate", json!({ "expression": expression, "awaitPromise": true, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{expression}\n{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    pub fn url(&self) -> String {
        text(&self.eval("location.href"))
    }

    /// What a person reads on it.
    pub fn text(&self) -> String {
        text(&self.eval("document.body ? document.body.innerText : ''"))
    }

    /// Waits until it can be read somewhere on the page.
    #[track_caller]
    pub fn shows(&self, wanted: &str) {
        until(&format!("the page shows {wanted:?}"), LIMIT, || {
            let text = self.text();
            if text.contains(wanted) { Ok(()) } else { Err(text) }
        });
    }

    /// Presses what the selector finds, with a real mouse in its middle.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.click_on(&format!("document.querySelector({})", Value::from(selector)), selector);
    }

    /// Presses the button or link with this text.
    #[track_caller]
    pub fn press(&self, label: &str) {
        let finds = "[...document.querySelectorAll('button, a')].find(e => e.offsetParent && !e.disabled && \
                     e.innerText.trim() === ";
        self.click_on(&format!("{finds}{})", Value::from(label)), label);
    }

    #[track_caller]
    fn click_on(&self, element: &str, what: &str) {
        let place = until(&format!("{what:?} can be pressed"), LIMIT, || {
            let place = self.eval(&format!(
                "(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block:'center'}}); \
                 const b = e.getBoundingClientRect(), x = b.x + b.width / 2, y = b.y + b.height / 2; \
                 return e.contains(document.elementFromPoint(x, y)) ? [x, y] : null; }})()"
            ));
            if place.is_array() { Ok(place) } else { Err(self.text()) }
        });
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": place[0], "y": place[1], "button": button, "clickCount": 1 }),
            );
        }
    }

    /// Puts the pointer there.
    #[track_caller]
    pub fn hover(&self, selector: &str) {
        let place = self.eval(&format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block:'center'}}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()",
            Value::from(selector)
        ));
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": place[0], "y": place[1] }));
    }

    /// Types into a field, in place of what it holds.
    #[track_caller]
    pub fn fill(&self, selector: &str, value: &str) {
        let selector = Value::from(selector);
        let found = self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector}); if (!e) return false; e.focus(); e.select(); return true; }})()"
        ));
        assert_eq!(found, true, "no field {selector} in\n{}", self.text());
        if value.is_empty() {
            self.key("Backspace");
        } else {
            self.call("Input.insertText", json!({ "text": value }));
        }
    }

    /// One key, by its name (`Enter`, `Tab`, `/`).
    pub fn key(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Backspace" => (8, ""),
            "Tab" => (9, ""),
            "ArrowLeft" => (37, ""),
            _ => (0, key),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// The whole page as a picture.
    pub fn screenshot(&self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let answer = self
            .call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }));
        std::fs::write(file, from_base64(answer["data"].as_str().unwrap_or_default())).expect("a picture is written");
    }

    /// What it complained about since it was last asked.
    pub fn troubles(&self) -> Vec<String> {
        // What happened before this answer has been read before it.
        self.eval("1");
        self.wire.inbox().troubles.remove(&self.session).unwrap_or_default()
    }

    #[track_caller]
    pub fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire.call(&self.session, method, parameters)
    }
}

impl Wire {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn send(&self, session: &str, method: &str, parameters: Value) -> Option<u64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut pipe = self.pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pipe.write_all(&bytes).and_then(|()| pipe.flush()).ok().map(|()| id)
    }

    #[track_caller]
    fn call(&self, session: &str, method: &str, parameters: Value) -> Value {
        let id = self.send(session, method, parameters).unwrap_or_else(|| panic!("{method}: the browser is gone"));
        let deadline = Instant::now() + LIMIT;
        let mut inbox = self.inbox();
        loop {
            if let Some(answer) = inbox.answers.remove(&id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !inbox.is_gone, "{method}: no answer from the browser");
            inbox = self.news.wait_timeout(inbox, left).expect("no panic under this lock").0;
        }
    }

    fn read(&self, stdout: ChildStdout) {
        for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice::<Value>(&message) else { continue };
            let mut inbox = self.inbox();
            if let Some(id) = message["id"].as_u64() {
                inbox.answers.insert(id, message);
            } else {
                inbox.take(&message);
            }
            self.news.notify_all();
        }
        self.inbox().is_gone = true;
        self.news.notify_all();
    }
}

impl Inbox {
    fn take(&mut self, event: &Value) {
        let session = text(&event["sessionId"]);
        let about = &event["params"];
        let trouble = match event["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => {
                *self.loads.entry(session).or_default() += 1;
                return;
            }
            "Runtime.exceptionThrown" => {
                let details = &about["exceptionDetails"];
                let what = details["exception"]["description"].as_str().or(details["text"].as_str());
                format!("script: {}", what.unwrap_or_default())
            }
            "Runtime.consoleAPICalled" if about["type"] == "error" => format!("console: {}", about["args"]),
            "Log.entryAdded" if about["entry"]["level"] == "error" || about["entry"]["source"] == "security" => {
                format!("log: {} {}", text(&about["entry"]["text"]), text(&about["entry"]["url"]))
            }
            "Audits.issueAdded" if about["issue"]["code"] == "ContentSecurityPolicyIssue" => {
                format!("policy: {}", about["issue"]["details"])
            }
            _ => return,
        };
        self.troubles.entry(session).or_default().push(trouble);
    }
}

/// All screens on which every page has to be right.
pub fn screens() -> impl Iterator<Item = Screen> {
    [1280, 390, 375]
        .into_iter()
        .flat_map(|width| [false, true].map(|is_dark| Screen { width, is_dark, is_touch: width < 600 }))
}

/// Looks at the page that is open on every screen: nothing overflows or is cut, every text can be read,
/// every control has a name and is big enough for a finger, no style attribute, no error, no violation of
/// its policy. Gives what is wrong, empty if nothing is.
pub fn checked(page: &Page) -> Vec<String> {
    let mut wrong = Vec::new();
    for screen in screens() {
        page.screen(screen);
        // Two frames: sizes are observed in one and drawn in the next.
        page.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
        let found =
            page.eval(&format!("({})({}, {})", include_str!("browser/checks.js"), screen.is_touch, screen.width));
        for problem in found.as_array().into_iter().flatten() {
            let mut line = String::new();
            let theme = if screen.is_dark { "dark" } else { "light" };
            let _ = write!(line, "{} {theme}: {}", screen.width, text(problem));
            wrong.push(line);
        }
    }
    wrong.extend(page.troubles());
    wrong
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
