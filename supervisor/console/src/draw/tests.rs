use super::*;
use crate::model::{Answer, Disk, Figures, Message};

fn unit(name: &str, state: &str) -> Unit {
    Unit {
        name: name.to_owned(),
        state: state.to_owned(),
        words: if state == "Running" {
            "ready".to_owned()
        } else {
            state.to_lowercase()
        },
        ready: state == "Running",
        running_for_ms: (state == "Running").then_some(240_000),
        usage: Some(crate::model::Usage {
            cpu_us: Some(1),
            memory: Some(14 << 20),
            tasks: Some(3),
        }),
        ..Unit::default()
    }
}

fn view(units: usize, messages: usize) -> View {
    let mut all: Vec<Unit> = (0..units)
        .map(|number| unit(&format!("unit-{number}"), "Done"))
        .collect();
    all.push(unit("postgres", "Running"));
    let answer = Answer {
        state: "ready".into(),
        admit: true,
        version: "0.1.0-standin".into(),
        build: "0123456789ab".into(),
        slot: "a".into(),
        mattermost: "11.7.9".into(),
        standin: true,
        site: Some("https://192.168.100.100".into()),
        fingerprint: Some("AB:".repeat(31) + "AB"),
        first_log_in: Some("correct-horse".into()),
        data: true,
        disk: Some(Disk {
            total: 12 << 30,
            free: 11 << 30,
        }),
        figures: Figures {
            memory_total: 2 << 30,
            memory_available: 1 << 30,
            ..Figures::default()
        },
        time: "2026-11-22T19:05:12.123Z".into(),
        zone: "UTC".into(),
        up_ms: 240_000,
        units: all,
        messages: (0..messages)
            .map(|number| Message {
                t: "2026-11-22T19:05:12.123Z".into(),
                text: format!("message {number} \u{1b}[31m"),
            })
            .collect(),
        ..Answer::default()
    };
    View {
        cpu_percent: Some(7),
        answer,
        ..View::default()
    }
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    (0..area.height)
        .map(|y| {
            let row: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
            row.trim_end().to_owned()
        })
        .collect()
}

fn shown(view: &View, page: Page, scroll: usize) -> Vec<String> {
    rows(&draw(view, page, scroll, true, Rect::new(0, 0, 80, 24)))
}

#[test]
fn the_overview_has_all_that_a_person_looks_for_on_one_screen() {
    let rows = shown(&view(15, 50), Page::Overview, 0);
    let text = rows.join("\n");
    for wanted in [
        "Atalaya 0.1.0-standin (build 0123456789ab)",
        "2026-11-22 19:05:12 UTC",
        "READY  (the machine has been running for 4 minutes)",
        "Address      https://192.168.100.100",
        "First log-in admin  correct-horse",
        "CPU 7 %, memory 1.0 GiB of 2.0 GiB, disk 11 GiB free of 12 GiB",
        "STAND-IN",
        "postgres             ok         14 MiB",
        "19:05:12 message 49",
        "Tab Services   Ctrl-L redraw   q plain lines",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
}

#[test]
fn an_update_is_shown_while_it_goes_on_and_when_it_was_taken_back() {
    let mut view = view(15, 3);
    for (stage, busy, is_shown) in [
        ("opened", false, false),
        ("writing", true, true),
        ("rolled_back", false, true),
    ] {
        view.answer.update = Some(crate::model::Update {
            stage: stage.into(),
            busy,
            words: "a version is being written".into(),
            stick: None,
        });
        let text = shown(&view, Page::Overview, 0).join("\n");
        let line = "Update       a version is being written";
        assert_eq!(text.contains(line), is_shown, "{stage}:\n{text}");
    }
}

fn with_stick(stick: crate::model::Offer) -> View {
    let mut view = view(15, 3);
    view.answer.update = Some(crate::model::Update {
        stick: Some(stick),
        ..crate::model::Update::default()
    });
    view
}

fn offer() -> crate::model::Offer {
    crate::model::Offer {
        version: "0.2.0".into(),
        mattermost: "11.8.0".into(),
        postgresql: "17.6".into(),
        refused: None,
    }
}

#[test]
fn a_stick_is_shown_with_the_key_that_asks_about_it() {
    let text = shown(&with_stick(offer()), Page::Overview, 0).join("\n");
    assert!(
        text.contains("Stick        holds version 0.2.0. To install it: press u"),
        "{text}"
    );
    assert!(text.contains("u update from the stick"), "{text}");
    let refused = crate::model::Offer {
        refused: Some(crate::model::Refusal {
            what: "It is signed by nobody.".into(),
            ..crate::model::Refusal::default()
        }),
        ..crate::model::Offer::default()
    };
    let text = shown(&with_stick(refused), Page::Overview, 0).join("\n");
    assert!(
        text.contains("Stick        It is signed by nobody."),
        "{text}"
    );
    assert!(!text.contains("u update"), "{text}");
}

#[test]
fn the_question_says_what_is_there_what_happens_and_how_to_say_yes() {
    let view = with_stick(offer());
    let mut question = crate::question::Question::new(offer());
    question.typed = "proc".into();
    let picture = |question: &crate::question::Question| {
        rows(&draw_question(&view, question, Rect::new(0, 0, 80, 24))).join("\n")
    };
    let text = picture(&question);
    for wanted in [
        "Install version 0.2.0?",
        "This machine   0.1.0-standin",
        "0.2.0, with Mattermost 11.8.0 and PostgreSQL 17.6",
        "kept out for some minutes",
        "with all data.",
        "type proceed and press Enter:  proc_",
        "Tab back, install nothing",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    question
        .refuse("No stick with version 0.2.0 is offered. Nothing was changed. Look again.".into());
    assert!(picture(&question).contains("Nothing was changed."));
    for (width, height) in [(0, 0), (1, 1), (20, 3), (40, 10), (300, 100)] {
        draw_question(&view, &question, Rect::new(0, 0, width, height));
    }
}

#[test]
fn what_is_wrong_stands_right_below_the_address_and_a_failed_service_comes_first() {
    let mut view = view(40, 3);
    view.answer.admit = false;
    view.answer.state = "PostgreSQL: failed".into();
    view.answer.wrong = vec!["PostgreSQL has failed while it ran: exit status 1.".into()];
    view.answer.units.push(unit("late", "Failed"));
    let rows = shown(&view, Page::Overview, 0);
    let text = rows.join("\n");
    assert!(rows[8].contains("NOT READY: PostgreSQL: failed"), "{text}");
    assert!(rows[9].contains("WRONG  PostgreSQL has failed"), "{text}");
    let services = rows
        .iter()
        .position(|row| row.contains("Services ("))
        .unwrap();
    assert!(
        rows[services + 1].starts_with(" late                 FAILED"),
        "{text}"
    );
    assert!(text.contains("more: Tab)"), "{text}");
}

#[test]
fn without_colour_nothing_is_lost() {
    let mut view = view(1, 1);
    view.answer.units.push(unit("late", "Failed"));
    let buffer = draw(&view, Page::Services, 0, false, Rect::new(0, 0, 80, 24));
    let rows = rows(&buffer);
    assert!(
        rows[2].starts_with(" late                 FAILED"),
        "{rows:#?}"
    );
    assert!(rows.iter().any(|row| row.contains("ready, for 4 minutes")));
    assert!(
        !rows[23].contains("plain lines"),
        "there are none on the machine's own screen"
    );
}

#[test]
fn long_lists_are_scrolled_and_never_past_their_end() {
    let view = view(100, 100);
    let first = shown(&view, Page::Services, 0);
    let last = shown(&view, Page::Services, 10_000);
    assert_ne!(first, last);
    assert!(last.iter().any(|row| row.contains("unit-99")));
    assert!(
        shown(&view, Page::Messages, 0)
            .iter()
            .any(|row| row.contains("message 99"))
    );
    assert!(
        shown(&view, Page::Messages, 10_000)
            .iter()
            .any(|row| row.contains("message 0 "))
    );
    assert_eq!(Page::Overview.next().previous(), Page::Overview);
}

#[test]
fn any_size_is_drawn_and_every_answer() {
    for view in [View::default(), view(0, 0), view(60, 60)] {
        for (width, height) in [
            (0, 0),
            (1, 1),
            (19, 3),
            (40, 10),
            (80, 24),
            (132, 50),
            (300, 100),
        ] {
            for page in [Page::Overview, Page::Services, Page::Messages] {
                draw(&view, page, 3, true, Rect::new(0, 0, width, height));
            }
        }
    }
}
