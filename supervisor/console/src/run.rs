//! Carries out what the session decides, one task per terminal; one more asks the supervisor for all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atalaya_sys::screen::{self, Lease};
use ratatui::layout::Rect;
use tokio::sync::{oneshot, watch};

use crate::client;
use crate::draw::{Page, draw, draw_question};
use crate::keys::{Key, Reader};
use crate::model::{Offer, View};
use crate::paint::{ASK, ENTER, LEAVE, Painter};
use crate::question::{self, Question};
use crate::session::{Effect, Event, Kind, Session};
use crate::terminal::Terminal;

/// From one look at the supervisor to the next.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Limits are looked at so often.
const TICK: Duration = Duration::from_millis(250);
/// A terminal that went away is tried again after so long.
const REOPEN_PAUSE: Duration = Duration::from_secs(5);
/// How long a terminal may take to be cleared when it is given back.
const LEAVE_LIMIT: Duration = Duration::from_millis(200);
/// What is drawn where the terminal does not say how large it is.
const SIZE: (u16, u16) = (80, 24);

/// One terminal.
#[derive(Clone, Debug)]
pub struct Place {
    /// The kernel's console, such as `tty0`: under this name it is taken.
    pub console: String,
    pub device: PathBuf,
    pub kind: Kind,
}

impl Place {
    /// `tty0` is whichever screen is in front; the picture is on the first.
    pub fn of(console: &str) -> Self {
        let (device, kind) = match console {
            "tty0" => ("tty1", Kind::Screen),
            name if name
                .strip_prefix("tty")
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())) =>
            {
                (name, Kind::Screen)
            }
            name => (name, Kind::Line),
        };
        Self {
            console: console.to_owned(),
            device: Path::new("/dev").join(device),
            kind,
        }
    }
}

/// What is known of the machine; none while the supervisor does not answer.
pub type News = Option<Arc<View>>;

/// Asks for ever.
pub async fn look(socket: PathBuf, news: watch::Sender<News>) {
    let mut last: News = None;
    loop {
        let view = client::ask(&socket).await.ok().map(|answer| {
            let before = last.as_ref().map(|view| &view.answer);
            Arc::new(View::new(before, answer))
        });
        // A question without an answer tells nothing new.
        if view.is_some() {
            last.clone_from(&view);
        }
        news.send_replace(view);
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// What all terminals use.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The supervisor's.
    pub socket: PathBuf,
    /// Where it says which terminals it draws on.
    pub locks: PathBuf,
}

/// Looks after one terminal until `stop` says so; then it is as it was.
pub async fn attend(
    place: Place,
    paths: Paths,
    news: watch::Receiver<News>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        if let Ok(terminal) = Terminal::open(&place.device) {
            let mut desk = Desk::new(&place, &paths, terminal, news.clone());
            // An error means that the terminal is gone; nothing of it is left to give back.
            drop(desk.attend(&mut stop).await);
        }
        if *stop.borrow() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(REOPEN_PAUSE) => {}
            _ = stop.changed() => {}
        }
    }
}

struct Desk<'a> {
    place: &'a Place,
    paths: &'a Paths,
    terminal: Terminal,
    news: watch::Receiver<News>,
    /// The last of them: under load a question now and then goes without an answer, and that changes nothing on the screen.
    known: News,
    session: Session,
    keys: Reader,
    painter: Painter,
    lease: Option<Lease>,
    page: Page,
    scroll: usize,
    /// Put instead of a page.
    question: Option<Question>,
    /// The supervisor's answer to a yes.
    begun: Option<oneshot::Receiver<Result<(), String>>>,
    size: (u16, u16),
    /// The picture is older than what is known.
    stale: bool,
    began: Instant,
}

impl<'a> Desk<'a> {
    fn new(
        place: &'a Place,
        paths: &'a Paths,
        terminal: Terminal,
        news: watch::Receiver<News>,
    ) -> Self {
        Self {
            place,
            paths,
            terminal,
            news,
            known: None,
            session: Session::new(place.kind),
            keys: Reader::default(),
            painter: Painter::new(Rect::default()),
            lease: None,
            page: Page::default(),
            scroll: 0,
            question: None,
            begun: None,
            size: SIZE,
            stale: false,
            began: Instant::now(),
        }
    }

    async fn attend(&mut self, stop: &mut watch::Receiver<bool>) -> io::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.hear_news().await?;
        loop {
            tokio::select! {
                bytes = self.terminal.turn() => {
                    let bytes = bytes?;
                    for key in self.keys.read(&bytes) {
                        self.on_key(key).await?;
                    }
                }
                changed = self.news.changed() => {
                    if changed.is_err() {
                        return self.leave().await;
                    }
                    self.hear_news().await?;
                }
                answer = answered(&mut self.begun) => self.hear_answer(answer),
                _ = tick.tick() => self.event(Event::Tick).await?,
                _ = stop.changed() => return self.leave().await,
            }
            self.draw();
        }
    }

    async fn hear_news(&mut self) -> io::Result<()> {
        let news = self.news.borrow_and_update().clone();
        let Some(view) = news else {
            // How long it is away is the session's to count.
            return self.event(Event::Tick).await;
        };
        let available = !view.answer.is_ending();
        self.known = Some(view);
        self.stale = true;
        self.forget_what_is_gone();
        self.event(Event::News { available }).await
    }

    fn offered(&self) -> Option<&Offer> {
        question::offered(&self.known.as_ref()?.answer)
    }

    /// A stick that was pulled out or holds something else asks nothing any more.
    fn forget_what_is_gone(&mut self) {
        let asked = self.question.as_ref().map(|question| &question.offer);
        if self.begun.is_none() && asked.is_some() && asked != self.offered() {
            self.question = None;
        }
    }

    fn hear_answer(&mut self, answer: Result<(), String>) {
        self.begun = None;
        self.stale = true;
        match answer {
            Ok(()) => (self.question, self.page) = (None, Page::Overview),
            Err(why) => {
                if let Some(question) = &mut self.question {
                    question.refuse(why);
                }
            }
        }
    }

    fn answer_question(&mut self, key: Key) {
        let Some(question) = &mut self.question else {
            return;
        };
        match question.press(key) {
            question::Step::Stay => {}
            question::Step::Leave => self.question = None,
            question::Step::Install => {
                let (done, begun) = oneshot::channel();
                let (socket, version) = (self.paths.socket.clone(), question.offer.version.clone());
                tokio::spawn(async move {
                    // The terminal may be gone.
                    drop(done.send(client::install(&socket, &version).await));
                });
                self.begun = Some(begun);
            }
        }
    }

    fn put_question(&mut self) {
        self.question = self.offered().cloned().map(Question::new);
    }

    async fn on_key(&mut self, key: Key) -> io::Result<()> {
        let event = match key {
            Key::Cursor(rows, columns) => {
                self.resize(rows, columns);
                Event::Answered
            }
            Key::Letter('q') if self.question.is_none() => Event::Quit,
            _ => Event::Pressed,
        };
        if self.session.is_drawn() {
            self.stale = true;
            match key {
                Key::Redraw => self.painter.forget(),
                _ if self.question.is_some() => self.answer_question(key),
                Key::Letter('u') => self.put_question(),
                Key::Next => (self.page, self.scroll) = (self.page.next(), 0),
                Key::Previous => (self.page, self.scroll) = (self.page.previous(), 0),
                // On messages up is back in time.
                Key::Up | Key::Letter('k') if self.page == Page::Messages => {
                    self.scroll = self.scroll.saturating_add(1)
                }
                Key::Down | Key::Letter('j') if self.page == Page::Messages => {
                    self.scroll = self.scroll.saturating_sub(1)
                }
                Key::PageUp if self.page == Page::Messages => {
                    self.scroll = self.scroll.saturating_add(10)
                }
                Key::PageDown if self.page == Page::Messages => {
                    self.scroll = self.scroll.saturating_sub(10)
                }
                Key::Up | Key::Letter('k') => self.scroll = self.scroll.saturating_sub(1),
                Key::Down | Key::Letter('j') => self.scroll = self.scroll.saturating_add(1),
                Key::PageUp => self.scroll = self.scroll.saturating_sub(10),
                Key::PageDown => self.scroll = self.scroll.saturating_add(10),
                Key::Letter(_) | Key::Enter | Key::Erase | Key::Other | Key::Cursor(..) => {}
            }
            // No list is longer.
            self.scroll = self.scroll.min(1000);
        }
        self.event(event).await
    }

    /// Within what a person could have in front of them.
    fn resize(&mut self, rows: u16, columns: u16) {
        let size = (columns.clamp(20, 300), rows.clamp(3, 100));
        if size != self.size {
            self.size = size;
            if self.session.is_drawn() {
                self.terminal.queue(ENTER);
                self.painter = Painter::new(self.area());
                self.stale = true;
            }
        }
    }

    fn area(&self) -> Rect {
        Rect::new(0, 0, self.size.0, self.size.1)
    }

    async fn event(&mut self, event: Event) -> io::Result<()> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        for effect in self.session.step(now_ms, event) {
            match effect {
                Effect::Ask => {
                    self.terminal.make_raw()?;
                    self.terminal.queue(ASK);
                }
                Effect::Enter => {
                    // Without it lines of others come between; the next repaint mends that.
                    self.lease = screen::take(&self.paths.locks, &self.place.console).ok();
                    self.terminal.queue(ENTER);
                    self.painter = Painter::new(self.area());
                    self.stale = true;
                }
                Effect::Repaint => {
                    self.terminal.queue(ASK);
                    self.painter.forget();
                    self.stale = true;
                }
                Effect::Leave => self.leave().await?,
            }
        }
        Ok(())
    }

    /// Only when the terminal has taken the last picture: one that is stopped costs no more than that.
    fn draw(&mut self) {
        if !self.session.is_drawn() || !self.stale || !self.terminal.is_idle() {
            return;
        }
        let Some(view) = &self.known else { return };
        let can_quit = self.place.kind == Kind::Line;
        let area = self.painter.area();
        let picture = match &self.question {
            Some(question) => draw_question(view, question, area),
            None => draw(view, self.page, self.scroll, can_quit, area),
        };
        let text = self.painter.paint(picture);
        self.terminal.queue(&text);
        self.stale = false;
    }

    async fn leave(&mut self) -> io::Result<()> {
        if let Some(lease) = self.lease.take() {
            self.terminal.queue(LEAVE);
            self.terminal.flush(LEAVE_LIMIT).await;
            drop(lease);
        }
        self.terminal.restore()
    }
}

/// Waits for ever if nothing was asked.
async fn answered(begun: &mut Option<oneshot::Receiver<Result<(), String>>>) -> Result<(), String> {
    match begun {
        Some(receiver) => receiver
            .await
            .unwrap_or_else(|_| Err("The supervisor was not asked.".to_owned())),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screens_and_lines_are_told_apart_by_the_kernels_name() {
        let of = |name: &str| {
            let place = Place::of(name);
            (place.device.to_string_lossy().into_owned(), place.kind)
        };
        assert_eq!(of("tty0"), ("/dev/tty1".into(), Kind::Screen));
        assert_eq!(of("tty1"), ("/dev/tty1".into(), Kind::Screen));
        assert_eq!(of("ttyS0"), ("/dev/ttyS0".into(), Kind::Line));
        assert_eq!(of("hvc0"), ("/dev/hvc0".into(), Kind::Line));
    }
}
