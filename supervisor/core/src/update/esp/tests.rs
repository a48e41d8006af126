use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::model::{Start, cuts, starts};
use super::*;

/// Contents: two good kernel images, one more, two loaders.
const UKIS: [&str; 3] = ["g", "x", "k"];
const OLD_LOADER: &str = "l1";
const NEW_LOADER: &str = "l2";
const SIZE: u64 = 18 << 20;

fn kept() -> Kept {
    let contents = UKIS.into_iter().chain([OLD_LOADER, NEW_LOADER]);
    contents.map(|sha256| (sha256.to_owned(), SIZE)).collect()
}

fn file(path: &str, sha256: &str, start: u64) -> File {
    File {
        path: path.to_owned(),
        size: SIZE,
        sha256: (!sha256.is_empty()).then(|| sha256.to_owned()),
        start,
    }
}

/// Entries by name and content, each alone, beside the old loader.
fn listing(entries: &[(&str, &str)]) -> Listing {
    let mut files: Vec<File> = LOADERS
        .iter()
        .zip(1..)
        .map(|(path, start)| file(path, OLD_LOADER, start))
        .collect();
    let entries = entries.iter().zip(10..);
    files.extend(
        entries.map(|((name, sha256), start)| file(&format!("{ENTRIES}/{name}"), sha256, start)),
    );
    let free = 400 << 20;
    Listing { files, free }
}

fn entry(number: u32, uki: &str, tries: Option<u32>) -> Entry {
    let uki = uki.to_owned();
    Entry { number, uki, tries }
}

fn esp(entries: &[Entry], loader: Option<&str>) -> Esp {
    Esp {
        entries: entries.to_vec(),
        loader: loader.map(str::to_owned),
        needed: None,
    }
}

fn good() -> Entry {
    entry(7, "g", None)
}

fn run(listing: &Listing, wanted: &Esp) -> (Vec<Step>, Listing) {
    let steps = plan(listing, wanted, &kept()).unwrap();
    let after = steps
        .iter()
        .fold(listing.clone(), |state, step| apply(&state, step, &kept()));
    (steps, after)
}

fn entries_of(listing: &Listing) -> Vec<String> {
    let mut names: Vec<String> = listing
        .files
        .iter()
        .filter(|file| is_same(directory(&file.path), ENTRIES))
        .map(|file| {
            let sha256 = file.sha256.as_deref().unwrap_or("?");
            format!("{}={sha256}", file_name(&file.path))
        })
        .collect();
    names.sort();
    names
}

fn path(name: &str) -> String {
    format!("{ENTRIES}/{name}")
}

#[test]
fn arming_writes_beside_and_gives_the_name_last() {
    let wanted = esp(&[good(), entry(8, "x", Some(3))], None);
    let (steps, after) = run(&listing(&[("atalaya_000007.efi", "g")]), &wanted);
    let temporary = path("atalaya_new0.tmp");
    let expected = [
        Step::Write {
            path: temporary.clone(),
            sha256: "x".to_owned(),
        },
        Step::Rename {
            from: temporary,
            to: path("atalaya_000008+3.efi"),
        },
    ];
    assert_eq!(steps, expected);
    assert_eq!(
        entries_of(&after),
        ["atalaya_000007.efi=g", "atalaya_000008+3.efi=x"]
    );
}

#[test]
fn tries_are_never_given_back() {
    let wanted = esp(&[good(), entry(8, "x", Some(3))], None);
    let there = listing(&[("atalaya_000007.efi", "g"), ("atalaya_000008+1-2.efi", "x")]);
    assert_eq!(plan(&there, &wanted, &kept()), Ok(Vec::new()));
    let both = [
        ("atalaya_000007.efi", "g"),
        ("atalaya_000008+1-2.efi", "x"),
        ("atalaya_000008+2-1.efi", "x"),
    ];
    let (_, after) = run(&listing(&both), &wanted);
    assert_eq!(
        entries_of(&after),
        ["atalaya_000007.efi=g", "atalaya_000008+1-2.efi=x"]
    );
}

#[test]
fn blessing_is_one_rename() {
    let there = listing(&[("ATALAYA_000007.EFI", "g"), ("atalaya_000008+2-1.efi", "x")]);
    let wanted = esp(&[good(), entry(8, "x", None)], None);
    let expected = [Step::Rename {
        from: path("atalaya_000008+2-1.efi"),
        to: path("atalaya_000008.efi"),
    }];
    assert_eq!(plan(&there, &wanted, &kept()).unwrap(), expected);
}

#[test]
fn blessing_that_was_cut_gets_a_content_of_its_own() {
    let mut there = listing(&[("atalaya_000007.efi", "g")]);
    there.files.push(file(&path("atalaya_000008.efi"), "x", 20));
    there
        .files
        .push(file(&path("atalaya_000008+2-1.efi"), "x", 20));
    let wanted = esp(&[good(), entry(8, "x", None)], None);
    let (steps, after) = run(&there, &wanted);
    let temporary = path("atalaya_new0.tmp");
    let expected = [
        Step::Write {
            path: temporary.clone(),
            sha256: "x".to_owned(),
        },
        Step::Replace {
            from: temporary,
            to: path("atalaya_000008.efi"),
            other: vec![path("atalaya_000008+2-1.efi")],
        },
    ];
    assert_eq!(steps, expected);
    assert_eq!(
        entries_of(&after),
        ["atalaya_000007.efi=g", "atalaya_000008.efi=x"]
    );
    // The old version takes it back instead: both names go in one step.
    let (steps, _) = run(&there, &esp(&[good()], None));
    let paths = vec![path("atalaya_000008+2-1.efi"), path("atalaya_000008.efi")];
    assert_eq!(steps, [Step::Remove { paths }]);
}

/// The long name is gone, the content is still that of the other name.
#[test]
fn an_alias_is_known_and_goes() {
    let mut there = listing(&[("atalaya_000007.efi", "g")]);
    let alias = path("ATALAY~2.EFI");
    there.files.push(file(&alias, "x", 20));
    there
        .files
        .push(file(&path("atalaya_000008+2-1.efi"), "x", 20));
    let (steps, after) = run(&there, &esp(&[good(), entry(8, "x", Some(3))], None));
    assert!(
        matches!(&steps[1], Step::Replace { other, .. } if *other == [alias.clone()]),
        "{steps:?}"
    );
    let (_, disarmed) = run(&there, &esp(&[good()], None));
    assert_eq!((after.files.len(), disarmed.files.len()), (4, 3));
}

#[test]
fn the_only_entry_is_renamed_by_a_copy() {
    let there = listing(&[("atalaya_000008+2-1.efi", "x")]);
    let (steps, after) = run(&there, &esp(&[entry(8, "x", None)], None));
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(matches!(&steps[2], Step::Remove { paths } if paths.len() == 1));
    assert_eq!(entries_of(&after), ["atalaya_000008.efi=x"]);
}

#[test]
fn what_is_lost_or_wrong_is_made_anew() {
    for there in [
        listing(&[]),
        listing(&[("atalaya_000007.efi", "")]),
        listing(&[("atalaya_000007.efi", "junk")]),
        listing(&[("atalaya_000003.efi", "k"), ("atalaya_000007.efi", "k")]),
        listing(&[("atalaya_7.efi", "g"), ("atalaya_new0.tmp", "")]),
    ] {
        let (_, after) = run(&there, &esp(&[good()], None));
        assert_eq!(entries_of(&after), ["atalaya_000007.efi=g"], "{there:?}");
    }
}

#[test]
fn the_good_entry_is_made_first() {
    let wanted = esp(&[entry(6, "x", Some(3)), good()], None);
    let (steps, _) = run(&listing(&[]), &wanted);
    let to = path("atalaya_000007.efi");
    assert!(matches!(&steps[1], Step::Rename { to: made, .. } if *made == to));
}

#[test]
fn what_may_hold_free_space_goes_before_anything_is_written() {
    let there = listing(&[("atalaya_new0.tmp", ""), ("atalaya_000003.efi", "k")]);
    let (steps, _) = run(&there, &esp(&[good()], None));
    let paths = vec![path("atalaya_new0.tmp")];
    assert_eq!(steps[0], Step::Remove { paths });
    let paths = vec![path("atalaya_000003.efi")];
    assert_eq!(steps.last(), Some(&Step::Remove { paths }));
}

#[test]
fn others_files_are_left_alone() {
    let there = listing(&[
        ("atalaya_000007.efi", "g"),
        ("debian-6.12.efi", "other"),
        ("FSCK0000.REC", "g"),
        ("new.tmp", "x"),
        ("BOOT~1.EFI", "x"),
        ("AT.EFI", "x"),
    ]);
    assert_eq!(plan(&there, &esp(&[good()], None), &kept()), Ok(Vec::new()));
    assert_eq!(plan(&there, &esp(&[], None), &kept()), Ok(Vec::new()));
}

#[test]
fn space_is_made_first_where_a_good_one_is_safe_and_asked_for_otherwise() {
    let mut there = listing(&[("atalaya_000007.efi", "g"), ("atalaya_000006.efi", "k")]);
    there.free = SIZE / 2 + SPARE;
    let wanted = esp(&[good(), entry(8, "x", Some(3))], None);
    let (steps, _) = run(&there, &wanted);
    let paths = vec![path("atalaya_000006.efi")];
    assert_eq!(steps[0], Step::Remove { paths });
    there.free = 0;
    let needed = SIZE + SPARE;
    let free = SIZE;
    assert_eq!(
        plan(&there, &wanted, &kept()),
        Err(Problem::Space { needed, free })
    );
}

#[test]
fn the_loader_is_replaced_last_and_only_when_asked() {
    let there = listing(&[("atalaya_000008.efi", "x"), ("atalaya_000007.efi", "g")]);
    let wanted = esp(&[entry(8, "x", None)], Some(NEW_LOADER));
    let (steps, after) = run(&there, &wanted);
    assert!(matches!(&steps[0], Step::Remove { .. }));
    let lost = listing(&[("atalaya_000007.efi", "g")]);
    let both = esp(&[good(), entry(8, "x", Some(3))], Some(NEW_LOADER));
    let (steps, _) = run(&lost, &both);
    let is_of_loader = |step: &Step| match step {
        Step::Replace { to, .. } => LOADERS.contains(&to.as_str()),
        Step::Write { path, .. } => !path.starts_with(ENTRIES),
        Step::Rename { .. } | Step::Remove { .. } => false,
    };
    assert!(steps.iter().map(is_of_loader).is_sorted(), "{steps:?}");
    for path in LOADERS {
        assert_eq!(
            after.file(path).unwrap().sha256.as_deref(),
            Some(NEW_LOADER)
        );
    }
    assert_eq!(after.files.len(), 3);
    assert_eq!(plan(&after, &wanted, &kept()), Ok(Vec::new()));
}

#[test]
fn impossible_wishes_are_refused() {
    let there = listing(&[("atalaya_000007.efi", "g")]);
    let refused = |entries: &[Entry]| plan(&there, &esp(entries, None), &kept()).unwrap_err();
    assert_eq!(refused(&[entry(8, "x", Some(3))]), Problem::NoGood);
    assert_eq!(
        refused(&[good(), entry(7, "x", Some(3))]),
        Problem::Twice(7)
    );
    assert_eq!(
        refused(&[good(), entry(8, "unknown", Some(3))]),
        Problem::Missing("unknown".to_owned())
    );
}

fn is_uki(sha256: &str) -> bool {
    UKIS.contains(&sha256)
}

/// A good entry that is wanted and that nothing can touch.
fn is_safe(listing: &Listing, wanted: &Esp) -> bool {
    wanted.entries.iter().any(|entry| {
        let fit = Want::Entry(entry.clone()).fit(listing);
        entry.tries.is_none() && fit.is_some_and(|file| !listing.is_shared(file))
    })
}

fn loader_of(listing: &Listing) -> Option<&str> {
    listing.file(LOADERS[0])?.sha256.as_deref()
}

/// What is asked for in the course of updates: 7 is good, 8 on trial, marked good, alone; the loader is new from then on.
fn requests() -> impl Strategy<Value = Esp> {
    let trial = |tries| entry(8, "x", tries);
    select(vec![
        esp(&[good()], None),
        esp(&[good(), trial(Some(3))], None),
        esp(&[good(), trial(None)], None),
    ])
}

/// A request, at which of its steps it is cut, and what the cut leaves; how often the machine is started then.
fn story() -> impl Strategy<Value = Vec<(Esp, usize, Index, usize)>> {
    let one = (requests(), 0usize..6, any::<Index>(), 0usize..4);
    vec(one, 1..12)
}

/// At which step of a plan it is cut, and what that leaves; after these it runs to its end.
fn points() -> impl Strategy<Value = Vec<(usize, Index)>> {
    vec((0usize..8, any::<Index>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However often it is cut: something boots, the loader is whole, and the good entry is never touched.
    #[test]
    fn whatever_is_cut_the_good_entry_boots(story in story()) {
        let kept = kept();
        let mut now = listing(&[("atalaya_000007.efi", "g")]);
        now.free = 4 << 30; // what a cut leaves without a name takes space
        for (wanted, cut, which, boots) in story {
            let steps = plan(&now, &wanted, &kept).unwrap();
            for (index, step) in steps.iter().enumerate() {
                for state in cuts(&now, step, &kept) {
                    prop_assert!(is_safe(&state, &esp(&[good()], None)), "{state:?}");
                    prop_assert_eq!(loader_of(&state), Some(OLD_LOADER));
                    for (start, _) in starts(&state, &is_uki) {
                        prop_assert!(start != Start::Stuck, "{state:?}");
                    }
                }
                if index == cut {
                    now = which.get(&cuts(&now, step, &kept)).clone();
                    break;
                }
                now = apply(&now, step, &kept);
            }
            for _ in 0..boots {
                now = which.get(&starts(&now, &is_uki)).1.clone();
            }
        }
    }

    /// After Opened only the new one is wanted: until it is alone and whole, the old one stays.
    #[test]
    fn the_old_entry_goes_when_the_new_one_stands(points in points()) {
        let kept = kept();
        let wanted = esp(&[entry(8, "x", None)], Some(NEW_LOADER));
        let mut now = listing(&[("atalaya_000007.efi", "g"), ("atalaya_000008.efi", "x")]);
        now.free = 4 << 30;
        for point in points.into_iter().map(Some).chain([None]) {
            for (index, step) in plan(&now, &wanted, &kept).unwrap().iter().enumerate() {
                let states = cuts(&now, step, &kept);
                for state in &states {
                    prop_assert!(is_safe(state, &wanted));
                    let loader = loader_of(state);
                    prop_assert!(loader == Some(OLD_LOADER) || loader == Some(NEW_LOADER), "{:?}", state);
                }
                if let Some((cut, which)) = &point
                    && *cut == index
                {
                    now = which.get(&states).clone();
                    break;
                }
                now = apply(&now, step, &kept);
            }
        }
        prop_assert_eq!(entries_of(&now), ["atalaya_000008.efi=x"]);
        prop_assert_eq!(loader_of(&now), Some(NEW_LOADER));
    }

    /// From anything at all, with cuts: it ends, and it ends with what is wanted; others' files are as they were.
    #[test]
    fn from_anything_to_what_is_wanted(
        there in anything(),
        wanted in anything_wanted(),
        points in points(),
    ) {
        let kept = kept();
        let foreign = |listing: &Listing| -> Vec<File> {
            let files = listing.files.iter().filter(|file| !is_ours(&file.path));
            let mut files: Vec<File> = files.filter(|file| !LOADERS.contains(&file.path.as_str())).cloned().collect();
            files.sort();
            files
        };
        let mut now = there.clone();
        for point in points.into_iter().map(Some).chain([None]) {
            let was_safe = is_safe(&now, &wanted);
            let steps = plan(&now, &wanted, &kept).unwrap();
            prop_assert!(steps.len() < 20);
            for (index, step) in steps.iter().enumerate() {
                let states = cuts(&now, step, &kept);
                for state in &states {
                    prop_assert!(!was_safe || is_safe(state, &wanted), "{step:?} {state:?}");
                }
                if let Some((cut, which)) = &point
                    && *cut == index
                {
                    now = which.get(&states).clone();
                    break;
                }
                now = apply(&now, step, &kept);
            }
        }
        prop_assert_eq!(foreign(&now), foreign(&there));
        let is_bound = |file: &File| now.sharers(file).any(|other| !is_ours(&other.path));
        let ours = now.files.iter().filter(|file| is_ours(&file.path) && !is_bound(file));
        prop_assert_eq!(ours.count(), wanted.entries.len(), "{:?}", now);
        for want in wants(&wanted).unwrap() {
            let file = want.fit(&now);
            prop_assert!(file.is_some_and(|file| !now.is_shared(file)), "{want:?} {now:?}");
        }
        prop_assert_eq!(plan(&now, &wanted, &kept), Ok(Vec::new()));
    }
}

/// Files of any of our names, with contents that several names may share; files of others with contents of their own.
fn anything() -> impl Strategy<Value = Listing> {
    let names = select(vec![
        "EFI/Linux/atalaya_000007.efi",
        "EFI/Linux/ATALAYA_000007+1.EFI",
        "EFI/Linux/atalaya_000008.efi",
        "EFI/Linux/atalaya_000008+2-1.efi",
        "EFI/Linux/atalaya_000008+3.efi",
        "EFI/Linux/atalaya_8.efi",
        "EFI/Linux/atalaya_000009.efi",
        "EFI/Linux/ATALAY~1.EFI",
        "EFI/Linux/AT1A2B~1.TMP",
        "EFI/Linux/atalaya_new0.tmp",
        "EFI/Linux/atalaya_new1.tmp",
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/BOOT/atalaya_new0.tmp",
        "EFI/systemd/systemd-bootx64.efi",
    ]);
    let contents = vec(select(vec!["g", "x", "k", OLD_LOADER, NEW_LOADER, ""]), 6);
    (vec((names, 0usize..7), 0..8), contents).prop_map(|(names, contents)| {
        let mut there = Listing {
            files: vec![file("EFI/Linux/other.efi", "other", 100)],
            free: 4 << 30,
        };
        for (name, content) in names {
            if there.file(name).is_some() {
                continue;
            }
            // The last one is none at all.
            there.files.push(match contents.get(content) {
                Some(sha256) => file(name, sha256, content as u64 + 1),
                None => File {
                    size: 0,
                    ..file(name, "", 0)
                },
            });
        }
        there
    })
}

fn anything_wanted() -> impl Strategy<Value = Esp> {
    let entry_of = |number| {
        (select(UKIS.to_vec()), select(vec![None, Some(1), Some(3)]))
            .prop_map(move |(uki, tries)| entry(number, uki, tries))
    };
    let loader = select(vec![None, Some(NEW_LOADER)]);
    (entry_of(7), prop::option::of(entry_of(8)), loader).prop_map(|(first, second, loader)| {
        let first = Entry {
            tries: None,
            ..first
        };
        let entries: Vec<Entry> = [first].into_iter().chain(second).collect();
        esp(&entries, loader)
    })
}
