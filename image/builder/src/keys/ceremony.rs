//! `keys new|rotate|sign|trust`: each works on small files that travel; only `rotate` and `trust` need the project.
#![allow(clippy::print_stdout)] // their output is what they are for

use super::{Content, KeysError, Request, newest, read_sets, secret, unusable_set};
use crate::error::{IoContext, Result};
use crate::pipeline::to_json;
use crate::project::Project;
use atalaya_bundle::keys::{KeySet, KeySets, PublicKey, SignedKeySet};
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Makes a secret key at `file` and its public part beside it.
pub fn new(file: &Path) -> Result<()> {
    let key = secret::make(file)?;
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    let text = format!("{}\n", key.public());
    atalaya_sys::durable::write(&public, text.as_bytes(), 0o644, None)?;
    println!("secret key  {} (keep it on this machine)", file.display());
    println!("public key  {} (for everybody)", public.display());
    println!("            {}", key.public());
    Ok(())
}

/// Writes the request for the next set. `lost`: nobody can sign for the former one any more; the number is above that one's too, because a machine
/// takes no set below the highest that it has ever accepted.
pub fn rotate(
    project: &Project,
    threshold: u32,
    keys: &[PathBuf],
    lost: Option<u32>,
    request: &Path,
) -> Result<()> {
    let sets = read_sets(&project.release_keys())?;
    let former = sets.as_ref().and_then(newest).cloned();
    let keys: Vec<PublicKey> = keys
        .iter()
        .map(|path| public(path))
        .collect::<Result<_>>()?;
    let highest = former.as_ref().map_or(0, |former| former.version);
    let version = highest.max(lost.unwrap_or(0)).saturating_add(1);
    let set = KeySet::new(version, threshold, keys).map_err(unusable_set)?;
    let asked = Request::new(Content::KeySet {
        set,
        former: former.filter(|_| lost.is_none()),
    });
    asked.write(request)?;
    print!("{asked}");
    println!(
        "To be signed with `keys sign {} --key FILE`.",
        request.display()
    );
    Ok(())
}

fn public(path: &Path) -> Result<PublicKey> {
    let text = fs::read_to_string(path).during("read", path)?;
    PublicKey::parse(text.trim()).ok_or_else(|| {
        KeysError::Unusable {
            path: path.to_owned(),
            problem: "is no public key".to_owned(),
            next: "give the files that end in .pub",
        }
        .into()
    })
}

/// Shows what `request` asks for, asks, and adds a signature.
pub fn sign(request: &Path, key: &Path, yes: bool) -> Result<()> {
    let key = secret::read(key)?;
    let mut asked = Request::read(request)?;
    print!("{asked}");
    if !yes && !confirmed(std::io::stdin().lock())? {
        return Err(KeysError::NotConfirmed.into());
    }
    asked.sign(&key)?;
    asked.write(request)?;
    println!("signed by {}", key.public());
    Ok(())
}

fn confirmed(mut input: impl BufRead) -> Result<bool> {
    println!("Sign this? Type yes:");
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .during("read", Path::new("standard input"))?;
    Ok(answer.trim() == "yes")
}

/// Takes a set that enough have signed into the project.
pub fn accept(project: &Project, requests: &[PathBuf]) -> Result<()> {
    let path = project.release_keys();
    let request = Request::gather(requests)?;
    let sets = follow(&path, read_sets(&path)?, request)?;
    atalaya_sys::durable::write(&path, to_json(&sets)?.as_bytes(), 0o644, None)?;
    let version = newest(&sets).map_or(0, |set| set.version);
    println!(
        "{}: key set {version} is the newest. Images that are built with KEYS=release know it; commit the file.",
        path.display()
    );
    Ok(())
}

/// The sets with the requested one behind them.
fn follow(
    path: &Path,
    former: Option<KeySets>,
    request: Request,
) -> std::result::Result<KeySets, KeysError> {
    let not_next = |problem: &str| KeysError::NotNext {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let Content::KeySet { set, former: said } = request.sign else {
        return Err(not_next("it is a bundle's"));
    };
    let last = former.as_ref().and_then(newest);
    if let Some(last) = last {
        let is_next = last.version.checked_add(1) == Some(set.version);
        // A chain that begins anew may leave out numbers that were in use elsewhere.
        let begins_above = said.is_none() && set.version > last.version;
        if !is_next && !begins_above {
            return Err(not_next("its number is not the next one"));
        }
    }
    let mut sets = match (&said, last) {
        (Some(said), Some(last)) if said == last => former,
        // A first set, or one that begins anew because the former's keys are lost.
        (None, _) => None,
        (Some(_), _) => return Err(not_next("it was proposed for other former keys")),
    }
    .unwrap_or(KeySets { sets: Vec::new() });
    sets.sets.push(SignedKeySet {
        set,
        signatures: request.signatures,
    });
    sets.verify().map_err(|problem| KeysError::Set {
        problem,
        next: "let those sign whose signatures are missing, and give all the copies",
    })?;
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Purpose, sets};
    use atalaya_bundle::keys::{SigningKey, Trust, TrustFile};

    /// A table with people's keys and a project.
    struct Table {
        folder: tempfile::TempDir,
        project: Project,
    }

    impl Table {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let project = Project::new(folder.path().join("project"), None);
            fs::create_dir_all(project.image_sources()).unwrap();
            Self { folder, project }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn key(&self, name: &str) -> SigningKey {
            let path = self.at(name);
            if !path.exists() {
                new(&path).unwrap();
            }
            secret::read(&path).unwrap()
        }

        /// A set of these keys, signed by those.
        fn ceremony(&self, keys: &str, signers: &str, lost: Option<u32>) -> Result<()> {
            let request = self.at("request.json");
            let publics: Vec<PathBuf> = keys
                .split(' ')
                .map(|name| {
                    self.key(name);
                    self.at(&format!("{name}.pub"))
                })
                .collect();
            rotate(&self.project, 2, &publics, lost, &request)?;
            // Each on a copy of their own, as on separate machines.
            let copies: Vec<PathBuf> = signers
                .split(' ')
                .map(|name| {
                    let copy = self.at(&format!("request-{name}.json"));
                    fs::copy(&request, &copy).unwrap();
                    sign(&copy, &self.at(name), true).unwrap();
                    copy
                })
                .collect();
            accept(&self.project, &copies)
        }

        fn sets(&self) -> KeySets {
            sets(&self.project, Purpose::Release).unwrap()
        }
    }

    fn trust(sets: &KeySets) -> Trust {
        let file = TrustFile {
            purpose: Purpose::Release,
            sets: sets.sets.clone(),
        };
        Trust::new(file, None).unwrap()
    }

    #[test]
    fn a_machine_five_sets_behind_follows() {
        let table = Table::new();
        table.ceremony("a b c", "a b", None).unwrap();
        let first = trust(&table.sets());
        for (keys, signers) in [
            ("b c d", "b c"),
            ("c d e", "c d"),
            ("d e f", "d e"),
            ("e f g", "e f"),
            ("f g h", "f g"),
        ] {
            table.ceremony(keys, signers, None).unwrap();
        }
        let sets = table.sets();
        assert_eq!(first.follow(&sets).unwrap().version, 6);
        // The others' way round it is over.
        let mut old = sets.clone();
        old.sets.pop();
        assert!(trust(&sets).follow(&old).is_err());
    }

    #[test]
    fn both_thresholds_are_needed_and_nothing_is_written_without_them() {
        let table = Table::new();
        table.ceremony("a b c", "a c", None).unwrap();
        let before = fs::read(table.project.release_keys()).unwrap();
        for signers in ["a b", "d e", "a d", "b c"] {
            let text = table
                .ceremony("c d e", signers, None)
                .err()
                .unwrap()
                .to_string();
            assert!(text.contains("of the 2 signatures"), "{signers}: {text}");
        }
        assert_eq!(fs::read(table.project.release_keys()).unwrap(), before);
        table.ceremony("c d e", "a c d", None).unwrap();
    }

    #[test]
    fn after_a_loss_a_new_chain_begins_with_the_next_number() {
        let table = Table::new();
        table.ceremony("a b", "a b", None).unwrap();
        let old = trust(&table.sets());
        table.ceremony("c d", "c d", Some(0)).unwrap();
        let sets = table.sets();
        assert_eq!((sets.sets.len(), newest(&sets).unwrap().version), (1, 2));
        // Machines of the old keys are not taken over by it: they have to be installed anew.
        assert!(old.follow(&sets).is_err());
        // And above whatever was in use where this list does not tell.
        table.ceremony("e f", "e f", Some(7)).unwrap();
        assert_eq!(newest(&table.sets()).unwrap().version, 8);
        table.ceremony("g h", "g h", Some(3)).unwrap();
        assert_eq!(newest(&table.sets()).unwrap().version, 9);
    }

    #[test]
    fn a_request_for_something_else_is_refused() {
        let table = Table::new();
        table.ceremony("a b", "a b", None).unwrap();
        let request = table.at("request.json");
        // Signed already, and taken: not a second time.
        let text = accept(&table.project, std::slice::from_ref(&request))
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("not the next one"), "{text}");
        table.key("x");
        let text = sign(&request, &table.at("x"), true)
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("no say"), "{text}");
        let copy = table.at("copy.json");
        fs::copy(&request, &copy).unwrap();
        rotate(&table.project, 1, &[table.at("a.pub")], None, &request).unwrap();
        let text = Request::gather(&[request, copy]).err().unwrap().to_string();
        assert!(text.contains("something else"), "{text}");
    }

    #[test]
    fn only_yes_is_yes() {
        assert!(confirmed("yes\n".as_bytes()).unwrap());
        for other in ["", "\n", "y\n", "no\n", "YES\n"] {
            assert!(!confirmed(other.as_bytes()).unwrap());
        }
    }
}
