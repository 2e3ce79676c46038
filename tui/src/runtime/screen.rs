//! The drawing thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coral_model::time::Time;
use crossterm::event::{self, Event, MouseButton, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Farewell, History, Options, RunError, bytes, editor};
use crate::app::{App, Effect, Input};
use crate::feed::{Desk, Engine, Feed, Inbox};
use crate::keymap::Key;
use crate::terminal::{Painter, Session, Stops, restore};

/// Between two frames that only data asked for.
const FRAME: Duration = Duration::from_millis(33);

/// App and painter together: state in, bytes out. What tests, benches and the drawing thread share.
pub struct Screen {
    /// The state.
    pub app: App,
    painter: Painter,
    next: Buffer,
    /// Frames drawn.
    pub draws: u64,
}

impl Screen {
    /// Around an app.
    #[must_use]
    pub fn new(app: App) -> Self {
        let size = app.size;
        let area = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        Self { app, painter: Painter::new(size), next: Buffer::empty(area), draws: 0 }
    }

    /// The bytes that bring the terminal up to date; empty when nothing looks different.
    pub fn frame(&mut self) -> &[u8] {
        if !self.app.take_dirty() {
            return &[];
        }
        let area = Rect { x: 0, y: 0, width: self.app.size.0, height: self.app.size.1 };
        if self.next.area == area {
            self.next.reset();
        } else {
            self.next = Buffer::empty(area);
        }
        crate::pane::draw(&mut self.app, &mut self.next);
        self.draws += 1;
        self.painter.paint(&mut self.next)
    }

    /// What the terminal shows.
    #[must_use]
    pub fn shown(&self) -> &Buffer {
        self.painter.shown()
    }

    /// Paints every cell with the next frame.
    pub fn forget(&mut self) {
        self.painter.forget();
        self.app.touch();
    }
}

/// When the next frame may be drawn.
pub struct Pace {
    drawn: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { drawn: Instant::now() }
    }
}

impl Pace {
    /// Waits until something arrives, and takes it. Data wait for the next frame, and more may
    /// come with them; a key does not wait.
    pub fn turn(&self, screen: &mut Screen, inbox: &Inbox) -> Vec<Effect> {
        let wake = screen.app.next_wake().map(|at| {
            Instant::now() + Duration::from_nanos(at.since(Time::now())) + Duration::from_millis(1)
        });
        let mail = inbox.take(wake);
        let by_person = !mail.inputs.is_empty();
        let mut effects = screen.app.receive(mail, Time::now());
        if by_person {
            return effects;
        }
        let due = self.drawn + FRAME;
        while Instant::now() < due {
            let mail = inbox.take(Some(due));
            let urgent = !mail.inputs.is_empty();
            effects.extend(screen.app.receive(mail, Time::now()));
            if urgent {
                break;
            }
        }
        effects
    }

    /// A frame was drawn.
    pub fn drew(&mut self) {
        self.drawn = Instant::now();
    }
}

/// From the terminal's events to ours; `None` for those that mean nothing.
fn translate(event: &Event) -> Option<Input> {
    Some(match event {
        Event::Key(key) => Input::Key(Key::from_event(key)?),
        Event::Paste(text) => Input::Paste(text.clone()),
        Event::Resize(width, height) => Input::Resize(*width, *height),
        Event::FocusGained => Input::Focus(true),
        Event::FocusLost => Input::Focus(false),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Input::Click(mouse.column, mouse.row),
            MouseEventKind::ScrollDown => Input::Wheel(mouse.column, mouse.row, true),
            MouseEventKind::ScrollUp => Input::Wheel(mouse.column, mouse.row, false),
            _ => return None,
        },
    })
}

/// Reads on only when what was read is dealt with: a key may start an editor, which then has the
/// keys to itself.
fn read_terminal(inbox: &Inbox) {
    loop {
        match event::read() {
            Ok(event) => {
                if let Some(input) = translate(&event) {
                    inbox.input(input);
                }
                if !event::poll(Duration::ZERO).unwrap_or(false) {
                    inbox.wait_until_dealt_with();
                }
            }
            Err(_) => {
                // The terminal is gone: there is nobody to show anything to.
                inbox.input(Input::Terminate);
                return;
            }
        }
    }
}

/// Turns signals into inputs, on a small runtime of its own.
fn watch_signals(inbox: &Arc<Inbox>) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("coral-signals")
        .enable_all()
        .build()?;
    for (kind, input) in [
        (SignalKind::terminate(), Input::Terminate),
        (SignalKind::interrupt(), Input::Terminate),
        (SignalKind::hangup(), Input::Terminate),
        (SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()), Input::Continued),
    ] {
        let inbox = Arc::clone(inbox);
        let _guard = runtime.enter();
        let mut stream = signal(kind)?;
        runtime.spawn(async move {
            while stream.recv().await.is_some() {
                // A Ctrl-C that is meant for an editor reaches us too.
                if kind == SignalKind::interrupt() && crate::terminal::is_lent() {
                    continue;
                }
                inbox.input(input.clone());
            }
        });
    }
    Ok(runtime)
}

/// Runs the screen on its own thread and waits for it.
pub(super) fn run(options: &Options, feed: Arc<dyn Feed>) -> Result<Farewell, RunError> {
    let size = Session::size()?;
    let app = super::app(options, size)?;
    let inbox = Arc::new(Inbox::default());
    let options = options.clone();
    let stops = Stops::held()?;
    guarded(move || screen(&options, app, feed, &inbox, &stops))
}

/// Runs what takes the terminal on a thread of its own, and gives the terminal back however that
/// ends; a panic says what it has to say on a terminal that is whole again.
///
/// # Errors
/// Those of `work`; [`RunError::Panicked`] when it panicked.
pub fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        hook(info);
    }));
    let thread = std::thread::Builder::new().name("coral-screen".into()).spawn(work)?;
    let outcome = thread.join().map_err(|_| RunError::Panicked);
    restore();
    outcome?
}

fn screen(
    options: &Options,
    app: App,
    feed: Arc<dyn Feed>,
    inbox: &Arc<Inbox>,
    stops: &Stops,
) -> Result<Farewell, RunError> {
    let mut session = Session::enter(app.mouse)?;
    let mut screen = Screen::new(app);
    // The first frame owes nothing to anybody: it is there before a socket is opened.
    session.write(screen.frame())?;
    let signals = watch_signals(inbox)?;
    let engine = Engine::start(feed, Arc::clone(inbox))?;
    let reader = Arc::clone(inbox);
    // Blocked in a read until the process ends; it owns nothing.
    std::thread::Builder::new().name("coral-input".into()).spawn(move || read_terminal(&reader))?;
    stops.take()?;

    if let Some(dir) = &options.state_dir {
        screen.app.sql.remember(History::new(dir).read());
    }
    let mut pace = Pace::default();
    let mut effects = screen.app.receive(crate::feed::Mail::default(), Time::now());
    loop {
        for effect in std::mem::take(&mut effects) {
            if !perform(options, effect, &mut screen, &mut session, engine.desk())? {
                let farewell = Farewell {
                    colony: screen.app.colony.clone(),
                    stays: screen.app.data.status.as_ref().map(|s| s.stays),
                    place: screen.app.place().to_string(),
                };
                drop(session);
                drop(engine);
                signals.shutdown_background();
                return Ok(farewell);
            }
        }
        inbox.dealt_with();
        effects = pace.turn(&mut screen, inbox);
        let bytes = screen.frame();
        if !bytes.is_empty() {
            session.write(bytes)?;
            pace.drew();
        }
    }
}

/// Opens what was named: a profile where it is a file, else a service.
fn open(screen: &mut Screen, text: &str) {
    let path = std::path::Path::new(text);
    if !path.is_file() {
        if crate::open::is_path(text) {
            return screen.app.say(format!("no such file: {}", coral_model::text::fit(text, 200)));
        }
        if let Err(why) = screen.app.open(text) {
            screen.app.say(why);
        }
        return;
    }
    let shown = match crate::open::kind::of(path) {
        Ok(crate::open::kind::Kind::Profile) => crate::open::profile::read(path),
        Ok(_) => {
            let quoted = coral_model::place::shell_quote(text);
            return screen
                .app
                .say(format!("from a shell: coral open {quoted}, in a colony of its own"));
        }
        Err(error) => Err(error),
    };
    match shown {
        Ok(profile) => screen.app.show_profile(path.to_owned(), Arc::new(profile)),
        Err(error) => screen.app.say(error.to_string()),
    }
}

/// Does what the app wants done; `false` ends the screen.
fn perform(
    options: &Options,
    effect: Effect,
    screen: &mut Screen,
    session: &mut Session,
    desk: &Desk,
) -> Result<bool, RunError> {
    match effect {
        Effect::Want(slot, want) => desk.want(slot, want),
        Effect::Complete(key, prefix) => desk.complete(key, prefix),
        Effect::Note(text, service, at) => desk.note(text, service, at),
        Effect::Copy(text) => session.write(&bytes::osc52(&text))?,
        Effect::Remember(statement) => {
            let kept = options.state_dir.as_deref().map(|dir| History::new(dir).add(&statement));
            if let Some(Err(error)) = kept {
                screen.app.say(format!("this statement will not be remembered: {error}"));
            }
        }
        Effect::Open(text) => open(screen, &text),
        Effect::Edit(text) => {
            let outcome = editor::edit(session, &text);
            if let Ok(size) = Session::size() {
                screen.app.size = size;
            }
            screen.forget();
            match outcome {
                Ok(Some(text)) => screen.app.edited(&text),
                Ok(None) => screen.app.say("the editor gave up; nothing was changed"),
                Err(error) => screen.app.say(format!("no editor: {error}; $EDITOR names yours")),
            }
        }
        Effect::Picture(file) => {
            let said = match crate::export::write(&file, screen.shown(), &screen.app.colony) {
                Ok(path) => format!("the picture is in {}", path.display()),
                Err(error) => format!("no picture: {file}: {error}"),
            };
            screen.app.say(said);
        }
        Effect::Mouse(on) => session.mouse(on)?,
        Effect::Theme(name) => match super::theme(options, Some(&name)) {
            Ok(theme) => screen.app.theme = theme,
            Err(error) => screen.app.say(error.to_string()),
        },
        Effect::Redraw => {
            session.resume()?;
            screen.forget();
        }
        Effect::Suspend => {
            session.suspend()?;
            if let Ok(size) = Session::size() {
                screen.app.size = size;
            }
            screen.forget();
        }
        Effect::Quit => return Ok(false),
    }
    // Effects run after the frame that asked for them; what they changed is shown at once.
    let bytes = screen.frame();
    if !bytes.is_empty() {
        session.write(bytes)?;
    }
    Ok(true)
}
