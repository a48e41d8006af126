//! Pictures: what a terminal of any size shows of an answer. Pure. Works without colour: every state has its word.

mod big;
mod question;

use atalaya_core::words::{duration, harmless, size};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};

pub use question::draw as draw_question;

use crate::model::{Unit, View};
use crate::question::offered;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    Overview,
    Services,
    Messages,
}

impl Page {
    pub fn next(self) -> Self {
        match self {
            Self::Overview => Self::Services,
            Self::Services => Self::Messages,
            Self::Messages => Self::Overview,
        }
    }

    pub fn previous(self) -> Self {
        self.next().next()
    }

    fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Services => "Services",
            Self::Messages => "Messages",
        }
    }
}

/// Margin left and right.
const MARGIN: u16 = 1;

/// Draws one page. `scroll` is how many rows are passed over; `can_quit`: there are plain lines to go back to.
pub fn draw(view: &View, page: Page, scroll: usize, can_quit: bool, area: Rect) -> Buffer {
    let mut buffer = Buffer::empty(area);
    if area.height < 3 || area.width < 20 {
        text(&mut buffer, area, 0, &view.answer.state, Style::new());
        return buffer;
    }
    let (body, keys) = frame(view, area, &mut buffer);
    match page {
        Page::Overview => overview(view, body, &mut buffer),
        Page::Services => services(view, scroll, body, &mut buffer),
        Page::Messages => messages(view, scroll, body, &mut buffer),
    }
    key_line(view, page, can_quit, keys, &mut buffer);
    buffer
}

/// The title above; what is left of the area for the body, and the line of keys.
fn frame(view: &View, area: Rect, buffer: &mut Buffer) -> (Rect, Rect) {
    let [head, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    title(view, head, buffer);
    let body = Rect::new(
        body.x + MARGIN.min(body.width),
        body.y,
        body.width.saturating_sub(2 * MARGIN),
        body.height,
    );
    (body, keys)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// One line at row `y` of `area`; what does not fit is cut.
fn text(buffer: &mut Buffer, area: Rect, y: u16, line: &str, style: Style) {
    if y < area.height {
        let line = harmless(line).replace('\t', " ");
        buffer.set_stringn(area.x, area.y + y, line, usize::from(area.width), style);
    }
}

fn title(view: &View, area: Rect, buffer: &mut Buffer) {
    let answer = &view.answer;
    buffer.set_style(area, reversed());
    text(
        buffer,
        area,
        0,
        &format!(" Atalaya {} (build {})", answer.version, answer.build),
        reversed(),
    );
    let clock = format!(" {} {} ", clock(&answer.time), answer.zone);
    let width = u16::try_from(clock.len()).unwrap_or(0);
    if width < area.width {
        let right = Rect::new(area.right() - width, area.y, width, 1);
        text(buffer, right, 0, &clock, reversed());
    }
}

/// "2026-11-22 19:05:12" of RFC 3339.
fn clock(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

fn key_line(view: &View, page: Page, can_quit: bool, area: Rect, buffer: &mut Buffer) {
    buffer.set_style(area, reversed());
    let scroll = match page {
        Page::Overview => "",
        Page::Services | Page::Messages => "   Up/Down scroll",
    };
    let quit = if can_quit { "   q plain lines" } else { "" };
    let stick = match offered(&view.answer) {
        Some(_) => "   u update from the stick",
        None => "",
    };
    let line = format!(
        " Tab {}{scroll}{stick}   Ctrl-L redraw{quit}",
        page.next().title()
    );
    text(buffer, area, 0, &line, reversed());
}

/// What was wrong or is, in colour too.
fn state_style(view: &View) -> Style {
    let color = if view.answer.admit && view.answer.wrong.is_empty() {
        Color::Green
    } else if view.answer.admit {
        Color::Yellow
    } else {
        Color::Red
    };
    bold().fg(color)
}

fn overview(view: &View, area: Rect, buffer: &mut Buffer) {
    let answer = &view.answer;
    let address = answer.address();
    let host = address
        .as_deref()
        .map(|address| address.trim_start_matches("https://").trim_end_matches('/'));
    let mut y = 1;
    // Large letters only where the rest has room too.
    if area.height >= 18
        && let Some(host) = host
    {
        let place = Rect::new(area.x, area.y + y, area.width, big::HEIGHT);
        if big::draw(host, place, buffer) {
            y += big::HEIGHT + 1;
        }
    }
    let mut row = |line: &str, style: Style| {
        text(buffer, area, y, line, style);
        y += 1;
    };
    let state = if answer.admit { "READY" } else { "NOT READY" };
    let detail = if answer.admit {
        format!(
            "  (the machine has been running for {})",
            duration(answer.up_ms)
        )
    } else {
        format!(": {}", answer.state)
    };
    row(&format!("{state}{detail}"), state_style(view));
    for wrong in answer.wrong.iter().take(2) {
        row(&format!("WRONG  {wrong}"), bold().fg(Color::Red));
    }
    row(
        &format!("Address      {}", address.as_deref().unwrap_or("none yet")),
        bold(),
    );
    if let Some(fingerprint) = &answer.fingerprint {
        let (first, second) = fingerprint
            .split_at_checked(48)
            .unwrap_or((fingerprint, ""));
        row(&format!("Certificate  {first}"), Style::new());
        row(&format!("             {second}"), Style::new());
    }
    if let Some(password) = &answer.first_log_in {
        row(&format!("First log-in admin  {password}"), bold());
    }
    row(&format!("Machine      {}", machine(view)), Style::new());
    let standin = if answer.standin {
        "  STAND-IN, for building and testing only"
    } else {
        ""
    };
    row(
        &format!("Mattermost   {}{standin}", answer.mattermost),
        Style::new(),
    );
    if let Some(update) = answer.update.as_ref().filter(|update| update.is_news()) {
        row(
            &format!("Update       {}", update.words),
            Style::new().fg(Color::Yellow),
        );
    }
    if let Some(stick) = answer
        .update
        .as_ref()
        .and_then(|update| update.stick.as_ref())
    {
        row(
            &format!("Stick        {}", stick.words()),
            Style::new().fg(Color::Yellow),
        );
    }
    if let Some(last) = &answer.last_boot
        && !matches!(last.cause.as_str(), "orderly" | "first-boot")
    {
        row(
            &format!("Last boot    {}", last.words),
            Style::new().fg(Color::Yellow),
        );
    }
    let rest = Rect::new(
        area.x,
        area.y + y.min(area.height),
        area.width,
        area.height.saturating_sub(y),
    );
    let wanted = u16::try_from(answer.units.len().div_ceil(2))
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    let [units, lines] = Layout::vertical([
        Constraint::Length(wanted.min(rest.height.saturating_sub(3).max(rest.height / 2))),
        Constraint::Min(0),
    ])
    .areas(rest);
    unit_columns(view, units, buffer);
    last_messages(view, lines, buffer);
}

fn machine(view: &View) -> String {
    let answer = &view.answer;
    let mut parts = Vec::new();
    if let Some(percent) = view.cpu_percent {
        parts.push(format!("CPU {percent} %"));
    }
    let (total, available) = (answer.figures.memory_total, answer.figures.memory_available);
    if total > 0 {
        parts.push(format!(
            "memory {} of {}",
            size(total.saturating_sub(available)),
            size(total)
        ));
    }
    match &answer.disk {
        _ if !answer.data => parts.push("no data partition".to_owned()),
        Some(disk) => parts.push(format!(
            "disk {} free of {}",
            size(disk.free),
            size(disk.total)
        )),
        None => {}
    }
    parts.join(", ")
}

fn heading(buffer: &mut Buffer, area: Rect, line: &str) {
    text(buffer, area, 0, line, bold().fg(Color::Cyan));
}

fn mark_style(unit: &Unit) -> Style {
    match unit.mark() {
        "FAILED" | "wrong" => bold().fg(Color::Red),
        "..." => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn sorted(view: &View) -> Vec<&Unit> {
    let mut units: Vec<&Unit> = view.answer.units.iter().collect();
    units.sort_by_key(|unit| unit.rank());
    units
}

/// Names and words, in two columns.
fn unit_columns(view: &View, area: Rect, buffer: &mut Buffer) {
    let rows = usize::from(area.height.saturating_sub(1));
    if rows == 0 {
        return;
    }
    let units = sorted(view);
    let shown = if units.len() > rows * 2 {
        rows * 2
    } else {
        units.len()
    };
    let more = match units.len() - shown {
        0 => String::new(),
        hidden => format!(" ({hidden} more: Tab)"),
    };
    heading(buffer, area, &format!("Services{more}"));
    let half = area.width / 2;
    for (number, unit) in units.iter().take(shown).enumerate() {
        let (column, row) = (number / rows, number % rows);
        let Ok(column) = u16::try_from(column) else {
            break;
        };
        let Ok(row) = u16::try_from(row + 1) else {
            break;
        };
        let place = Rect::new(
            area.x + column * half,
            area.y,
            half.saturating_sub(1),
            area.height,
        );
        let memory = unit
            .usage
            .as_ref()
            .and_then(|usage| usage.memory)
            .map_or_else(String::new, size);
        let line = format!("{:<20} {:<7} {memory:>9}", unit.name, unit.mark());
        text(buffer, place, row, &line, mark_style(unit));
    }
}

fn message_line(message: &crate::model::Message) -> String {
    let time = message.t.get(11..19).unwrap_or_default();
    format!("{time} {}", message.text)
}

fn last_messages(view: &View, area: Rect, buffer: &mut Buffer) {
    let rows = usize::from(area.height.saturating_sub(1));
    if rows == 0 {
        return;
    }
    heading(buffer, area, "Messages");
    let messages = &view.answer.messages;
    let first = messages.len().saturating_sub(rows);
    for (y, message) in (1..).zip(messages.iter().skip(first)) {
        text(buffer, area, y, &message_line(message), Style::new());
    }
}

/// All services with what they use.
fn services(view: &View, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let line = format!(
        "{:<20} {:<7} {:>5} {:>9} {:>6}  {}",
        "Service", "State", "CPU", "Memory", "Tasks", "Since, why"
    );
    heading(buffer, area, &line);
    let rows = usize::from(area.height.saturating_sub(1));
    let units = sorted(view);
    let first = scroll.min(units.len().saturating_sub(rows));
    for (y, unit) in (1..).zip(units.iter().skip(first).take(rows)) {
        let usage = unit.usage.clone().unwrap_or_default();
        let words = match unit.running_for_ms {
            Some(running) if unit.words == "ready" => format!("ready, for {}", duration(running)),
            Some(_) | None => unit.words.clone(),
        };
        let line = format!(
            "{:<20} {:<7} {:>5} {:>9} {:>6}  {words}",
            unit.name,
            unit.mark(),
            view.unit_percent
                .get(&unit.name)
                .map_or_else(String::new, |percent| format!("{percent} %")),
            usage.memory.map_or_else(String::new, size),
            usage
                .tasks
                .map_or_else(String::new, |tasks| tasks.to_string()),
        );
        text(buffer, area, y, &line, mark_style(unit));
    }
}

/// `scroll` goes back in time from the newest.
fn messages(view: &View, scroll: usize, area: Rect, buffer: &mut Buffer) {
    heading(buffer, area, "Messages");
    let rows = usize::from(area.height.saturating_sub(1));
    let messages = &view.answer.messages;
    let end = messages.len() - scroll.min(messages.len().saturating_sub(rows));
    for (y, message) in (1..).zip(messages.iter().take(end).skip(end.saturating_sub(rows))) {
        text(buffer, area, y, &message_line(message), Style::new());
    }
}

#[cfg(test)]
mod tests;
