//! `copy`: the next generation as a copy of the present one that shares its blocks. Refuses where the database was not shut down, or where
//! space may run out. The copy stands beside its place until it is complete, on the disk and verified; then it gets its name.

mod database;
mod error;
mod index;
mod space;
mod walk;

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_core::update::task::{self, Copied, Numbered, Outcome};
use atalaya_sys::{Context, durable};
use nix::fcntl::{Flock, FlockArg};

pub use error::CopyError;
pub use walk::Content;

use crate::exchange;
use crate::tree::{self, Place};
use database::Control;
use index::{About, Index};
use space::Need;
use walk::{Tally, Walk};

const NAME: &str = "copy";

/// Where things are.
#[derive(Debug, Clone)]
pub struct Ground {
    /// /data/gen
    pub generations: PathBuf,
    /// PostgreSQL's versions, each with its `bin`.
    pub postgresql: PathBuf,
    /// The directory of the server's socket.
    pub socket: PathBuf,
    pub content: Content,
    /// For how long a file must not have changed to count as copied beforehand: longer than the kernel's steps of time.
    pub settled: Duration,
}

impl Ground {
    pub fn of_machine() -> Self {
        Self {
            generations: "/data/gen".into(),
            postgresql: "/usr/lib/postgresql".into(),
            socket: "/run/postgresql".into(),
            content: Content::Shared,
            settled: Duration::from_secs(2),
        }
    }

    fn generation(&self, number: u32) -> PathBuf {
        self.generations.join(number.to_string())
    }
}

/// A copy that has not got its name yet.
pub const UNFINISHED: &str = ".unfinished";
/// What is known of it.
pub const INDEX: &str = ".unfinished.index";

/// The database's directory in a generation: it can only be copied when it is shut down.
const DATABASE: &std::ffi::CStr = c"postgres";

/// XFS gives the space of what was removed back a little later.
const SPACE_COMES_BACK: Duration = Duration::from_secs(10);

/// Does what is asked. `say` is told what is worth a line in the log, `tell` the progress.
///
/// # Errors
/// Why there is no complete copy; the generation that was to be copied is as it was.
pub fn run(
    ground: &Ground,
    request: &task::Copy,
    say: &dyn Fn(&str),
    tell: &mut dyn FnMut(&task::Walked),
) -> Result<Copied, CopyError> {
    let begun = Instant::now();
    let _working = lock(&ground.generations, FlockArg::LockExclusive)?;
    let (from, to) = (
        ground.generation(request.from),
        ground.generation(request.to),
    );
    if request.from == request.to || !from.is_dir() {
        return Err(CopyError::NoSource(request.from));
    }
    let controls = if request.beforehand {
        Vec::new()
    } else {
        verify_shut_down(ground, &from)?
    };
    let work = Work::open(ground, request)?;
    let removed = work.prepare(&to, say)?;
    let largest = if request.beforehand {
        Some(largest_table(ground, &from, say)?)
    } else {
        work.earlier.about.largest.clone()
    };
    let need = Need {
        database: database::size(&from).context("measure the database of", from.display())?,
        largest: largest.clone(),
    };
    if let Err(error) = verify_space(&ground.generations, &need, removed) {
        // It would only take more of what is short.
        work.abandon()?;
        return Err(error);
    }
    let about = About {
        from: request.from,
        largest,
    };
    let mut noted = request
        .beforehand
        .then(|| Index::new(about, ground.settled));
    let tally = work.walk(ground, &from, noted.as_mut(), tell)?;
    for place in &tally.skipped {
        say(&format!("{place} is no file and was left out"));
    }
    if !request.beforehand && verify_shut_down(ground, &from)? != controls {
        return Err(CopyError::Changed(from.display().to_string()));
    }
    if !request.beforehand && verify_shut_down(ground, &work.path)? != controls {
        return Err(CopyError::Differs(work.path));
    }
    // One for all: file by file it would take most of the time.
    nix::unistd::syncfs(&work.top).context("sync the file system of", work.path.display())?;
    match noted {
        Some(noted) => noted.write(&work.index)?,
        None => {
            std::fs::rename(&work.path, &to).context("name the copy", to.display())?;
            durable::remove(&work.index)?;
            durable::sync_directory(&ground.generations)?;
        }
    }
    Ok(Copied {
        files: tally.files,
        kept: tally.kept,
        bytes: tally.bytes,
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// While it is held, nothing that is unfinished is removed by `drop`. The kernel lets it go with the process.
pub fn lock(generations: &Path, how: FlockArg) -> atalaya_sys::Result<Flock<File>> {
    Flock::lock(tree::open_top(generations)?, how)
        .map_err(|(_, error)| error)
        .context("lock", generations.display())
}

/// The copy that is being made.
struct Work {
    generations: File,
    top: File,
    path: PathBuf,
    index: PathBuf,
    earlier: Index,
}

impl Work {
    /// Goes on with what was copied beforehand, if it was completed and is of the same generation.
    fn open(ground: &Ground, request: &task::Copy) -> Result<Self, CopyError> {
        let generations = tree::open_top(&ground.generations)?;
        let beside = |ending: &str| ground.generations.join(format!("{}{ending}", request.to));
        let (path, index) = (beside(UNFINISHED), beside(INDEX));
        let earlier = Index::read(&index).filter(|index| index.about.from == request.from);
        // Until it is complete again it is none: a walk that is cut off has noted nothing.
        if request.beforehand || earlier.is_none() {
            durable::remove(&index)?;
        }
        if earlier.is_none() {
            remove(&generations, &path)?;
        }
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.context("make", path.display())?,
        }
        let top = tree::open_top(&path)?;
        Ok(Self {
            generations,
            top,
            path,
            index,
            earlier: earlier.unwrap_or_default(),
        })
    }

    /// Whether something had to be removed from the copy's place.
    fn prepare(&self, to: &Path, say: &dyn Fn(&str)) -> Result<bool, CopyError> {
        if !to.exists() {
            return Ok(false);
        }
        say(&format!("{} is removed first", to.display()));
        remove(&self.generations, to)?;
        Ok(true)
    }

    fn abandon(&self) -> Result<(), CopyError> {
        durable::remove(&self.index)?;
        remove(&self.generations, &self.path)
    }

    fn walk(
        &self,
        ground: &Ground,
        from: &Path,
        noted: Option<&mut Index>,
        tell: &mut dyn FnMut(&task::Walked),
    ) -> Result<Tally, CopyError> {
        let mut tell = |tally: &Tally| {
            tell(&task::Walked {
                files: tally.files,
                bytes: tally.bytes,
            });
        };
        let source = tree::open_top(from)?;
        let name = name_of(from);
        let mut walk = Walk::new(ground.content, &self.earlier, &mut tell);
        if noted.is_some() {
            walk.without = &[DATABASE];
        }
        walk.noted = noted;
        walk.tree(&source, &self.top, &Place::top(&name))?;
        Ok(walk.tally)
    }
}

/// What each cluster says of itself.
fn verify_shut_down(ground: &Ground, generation: &Path) -> Result<Vec<Control>, CopyError> {
    let clusters =
        database::clusters(generation).context("list the databases of", generation.display())?;
    clusters
        .iter()
        .map(|cluster| database::verify_shut_down(&ground.postgresql, cluster))
        .collect()
}

/// Where the server does not say, the whole database stands for its largest table: more cannot be needed.
fn largest_table(
    ground: &Ground,
    from: &Path,
    say: &dyn Fn(&str),
) -> Result<(String, u64), CopyError> {
    let programs = database::newest_programs(&ground.postgresql);
    match database::largest_table(&programs, &ground.socket) {
        Ok(found) => Ok(found),
        Err(why) => {
            say(&format!(
                "the database does not say which table is the largest, so all of it counts as one: {why}"
            ));
            let all = database::size(from).context("measure the database of", from.display())?;
            Ok(("not known".to_owned(), all))
        }
    }
}

fn verify_space(generations: &Path, need: &Need, removed: bool) -> Result<(), CopyError> {
    let until = Instant::now() + SPACE_COMES_BACK;
    loop {
        let about = nix::sys::statvfs::statvfs(generations)
            .context("ask for the space of", generations.display())?;
        let free = about
            .blocks_available()
            .saturating_mul(about.fragment_size());
        match need.lack(free) {
            None => return Ok(()),
            Some(lack) if !removed || Instant::now() > until => {
                return Err(CopyError::Space(lack));
            }
            Some(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn remove(generations: &File, path: &Path) -> Result<(), CopyError> {
    let name = name_of(path);
    tree::remove(generations, &Place::top(&name), &mut || ())?;
    Ok(())
}

/// The unit `update-copy`.
///
/// # Errors
/// There is no request, or the result cannot be left.
pub fn unit(say: &dyn Fn(&str)) -> Result<(), String> {
    let Numbered {
        number,
        content: request,
    } = exchange::read_request::<task::Copy>(&exchange::request_directory(), NAME)?;
    let mut progress = exchange::Progress::of(NAME);
    let outcome = match run(&Ground::of_machine(), &request, say, &mut |walked| {
        progress.tell(walked);
    }) {
        Ok(copied) => {
            say(&format!(
                "{} files in {:.1} s, {} of them beforehand",
                copied.files,
                Duration::from_millis(copied.milliseconds).as_secs_f64(),
                copied.kept
            ));
            Outcome::Done(copied)
        }
        Err(error) => {
            let refusal = error.refusal();
            say(&refusal.what);
            Outcome::Refused(refusal)
        }
    };
    exchange::write_result(Path::new(task::DIRECTORY), NAME, number, outcome)
}

fn name_of(path: &Path) -> CString {
    let name = path.file_name().unwrap_or_default();
    // Names have no NUL.
    CString::new(name.as_encoded_bytes()).unwrap_or_default()
}
