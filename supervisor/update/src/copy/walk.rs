//! A tree like another one: content shared, not copied; owner, mode, times, extended attributes, extent sizes, project and hard links as they
//! were. Everything is reached by descriptors and no link is followed, because some of the tree belongs to units that run meanwhile.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;

use atalaya_sys::{Context, reflink, xattr, xfs};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

use super::CopyError;
use super::index::Index;
use crate::tree::{self, DEEPEST, Place};

/// What a walk came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files, directories and links.
    pub files: u64,
    pub bytes: u64,
    /// Of the files, those that an earlier walk had copied.
    pub kept: u64,
    /// Sockets, pipes and devices: they have no content, and whoever needs one makes it.
    pub skipped: Vec<String>,
}

/// How content gets into a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Shared until one of both is written to.
    Shared,
    /// Twice on the disk: for tests where the file system cannot share.
    Twice,
}

pub struct Walk<'a> {
    pub content: Content,
    /// What an earlier walk has copied.
    pub earlier: &'a Index,
    /// Where this one is noted, if others write meanwhile: then what goes away under it is no error.
    pub noted: Option<&'a mut Index>,
    /// Names at the top that are left out.
    pub without: &'a [&'a CStr],
    /// Told of the progress now and then.
    pub tell: &'a mut dyn FnMut(&Tally),
    pub tally: Tally,
    /// Files with several names: their number, the first of those names in the copy, and the copy's number.
    links: HashMap<u64, (CString, u64)>,
}

type Result<T> = std::result::Result<T, CopyError>;

impl<'a> Walk<'a> {
    pub fn new(content: Content, earlier: &'a Index, tell: &'a mut dyn FnMut(&Tally)) -> Self {
        Self {
            content,
            earlier,
            noted: None,
            without: &[],
            tell,
            tally: Tally::default(),
            links: HashMap::new(),
        }
    }

    /// Makes `to`, a directory, like `from`; `place` is `from`'s name.
    ///
    /// # Errors
    /// What could not be copied. Nothing of `from` is ever changed.
    pub fn tree(&mut self, from: &File, to: &File, place: &Place<'_>) -> Result<()> {
        self.directory(from, to, to, place, false)
    }

    fn directory(
        &mut self,
        from: &File,
        to: &File,
        top: &File,
        place: &Place<'_>,
        new: bool,
    ) -> Result<()> {
        if place.depth > DEEPEST {
            return Err(CopyError::TooDeep(place.to_string()));
        }
        let seen = fstat(from).context("look at", place)?;
        // First, because what is made in it inherits them.
        xfs::copy_attributes(from, to, place)?;
        if !new {
            remove_others(from, to, place)?;
        }
        let mut directories = Vec::new();
        tree::each(from, place, |name| {
            let here = place.below(name);
            if here.depth == 1 && self.without.contains(&name) {
                return Ok(());
            }
            let seen = match look(from, name).context("look at", here)? {
                Some(seen) => seen,
                None => return self.went_away(&here),
            };
            match kind(&seen) {
                SFlag::S_IFDIR => {
                    directories.push(name.to_owned());
                    Ok(())
                }
                SFlag::S_IFREG => self.file(from, to, top, name, &here, &seen),
                SFlag::S_IFLNK => self.link(from, to, name, &here, &seen),
                _ => {
                    self.tally.skipped.push(here.to_string());
                    Ok(())
                }
            }
        })?;
        for name in &directories {
            let here = place.below(name);
            let inner = match tree::open_directory(from, name) {
                Ok(inner) => inner,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    self.went_away(&here)?;
                    continue;
                }
                Err(error) => return Err(error).context("open", here)?,
            };
            let new = make_directory(to, name, &here)?;
            let copy = tree::open_directory(to, name).context("open the copy of", here)?;
            self.directory(&inner, &copy, top, &here, new)?;
        }
        dress(from, to, place, &seen)?;
        self.count(0);
        Ok(())
    }

    fn file(
        &mut self,
        from: &File,
        to: &File,
        top: &File,
        name: &CStr,
        place: &Place<'_>,
        seen: &FileStat,
    ) -> Result<()> {
        let there = look(to, name).context("look at the copy of", place)?;
        if let Some(there) = &there {
            let first = self.links.get(&seen.st_ino);
            if kind(there) == SFlag::S_IFREG
                && self.earlier.holds(there, seen)
                && first.is_none_or(|(_, copy)| *copy == there.st_ino)
            {
                if let Some(noted) = &mut self.noted {
                    noted.note(there, seen, now());
                }
                self.remember_link(seen, there.st_ino, place);
                self.tally.kept += 1;
                self.count(seen.st_size);
                return Ok(());
            }
            tree::remove(to, place, &mut || ())?;
        }
        if let Some((first, _)) = self.links.get(&seen.st_ino) {
            linkat(top, first.as_c_str(), to, name, AtFlags::empty())
                .context("link the copy of", place)?;
            self.count(0);
            return Ok(());
        }
        // A pipe that came to that name would not be waited for.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let source = match openat(from, name, flags, Mode::empty()) {
            Ok(source) => File::from(source),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return self.went_away(place),
            Err(error) => return Err(error).context("open", place)?,
        };
        let seen = fstat(&source).context("look at", place)?;
        if kind(&seen) != SFlag::S_IFREG {
            return self.went_away(place);
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let copy = openat(to, name, flags, mode).context("make the copy of", place)?;
        let copy = File::from(copy);
        xfs::copy_attributes(&source, &copy, place)?;
        if seen.st_size > 0 {
            match self.content {
                Content::Shared => reflink::clone_file(&source, &copy, place)?,
                Content::Twice => {
                    std::io::copy(&mut &source, &mut &copy).context("copy", place)?;
                }
            }
        }
        dress(&source, &copy, place, &seen)?;
        let made = fstat(&copy).context("look at the copy of", place)?;
        if let Some(noted) = &mut self.noted {
            noted.note(&made, &seen, now());
        }
        self.remember_link(&seen, made.st_ino, place);
        self.count(seen.st_size);
        Ok(())
    }

    fn link(
        &mut self,
        from: &File,
        to: &File,
        name: &CStr,
        place: &Place<'_>,
        seen: &FileStat,
    ) -> Result<()> {
        let target = match readlinkat(from, name) {
            Ok(target) => target,
            Err(Errno::ENOENT | Errno::EINVAL) => return self.went_away(place),
            Err(error) => return Err(error).context("read the link", place)?,
        };
        tree::remove(to, place, &mut || ())?;
        symlinkat(target.as_os_str(), to, name).context("make the copy of", place)?;
        let (user, group) = owner(seen);
        fchownat(to, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)
            .context("change the owner of the copy of", place)?;
        let (accessed, modified) = times(seen);
        utimensat(
            to,
            name,
            &accessed,
            &modified,
            UtimensatFlags::NoFollowSymlink,
        )
        .context("set the times of the copy of", place)?;
        self.count(0);
        Ok(())
    }

    /// While others write that is to be expected, and the next walk sees what became of it.
    fn went_away(&self, place: &Place<'_>) -> Result<()> {
        match self.noted {
            Some(_) => Ok(()),
            None => Err(CopyError::Changed(place.to_string())),
        }
    }

    fn remember_link(&mut self, seen: &FileStat, copy: u64, place: &Place<'_>) {
        if seen.st_nlink > 1 {
            self.links
                .entry(seen.st_ino)
                .or_insert_with(|| (place.relative(), copy));
        }
    }

    fn count(&mut self, bytes: i64) {
        self.tally.files += 1;
        self.tally.bytes += u64::try_from(bytes).unwrap_or_default();
        if self.tally.files.is_multiple_of(512) {
            (self.tell)(&self.tally);
        }
    }
}

/// From an earlier copy: what is not in the source any more.
fn remove_others(from: &File, to: &File, place: &Place<'_>) -> Result<()> {
    tree::each(to, place, |name| {
        let here = place.below(name);
        if look(from, name).context("look at", here)?.is_none() {
            tree::remove(to, &here, &mut || ())?;
        }
        Ok(())
    })
}

/// Whether it is made now: then nothing is in it.
fn make_directory(to: &File, name: &CStr, place: &Place<'_>) -> Result<bool> {
    let make = || mkdirat(to, name, Mode::S_IRWXU);
    match make() {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => {
            let there = look(to, name).context("look at the copy of", place)?;
            if there.is_some_and(|there| kind(&there) == SFlag::S_IFDIR) {
                return Ok(false);
            }
            tree::remove(to, place, &mut || ())?;
            make().context("make the copy of", place)?;
            Ok(true)
        }
        Err(error) => Err(error).context("make the copy of", place)?,
    }
}

/// What is at that name, not what a link there points to.
fn look(directory: &File, name: &CStr) -> nix::Result<Option<FileStat>> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Owner, attributes, mode and times, in this order: each is undone by the one before.
fn dress(source: &File, copy: &File, place: &Place<'_>, seen: &FileStat) -> Result<()> {
    let (user, group) = owner(seen);
    fchown(copy, user, group).context("change the owner of the copy of", place)?;
    for name in xattr::names(source, place)? {
        // Labels and capabilities are the running system's business, and /data is mounted without.
        if !name.to_bytes().starts_with(b"security.") {
            let value = xattr::value(source, &name, place)?;
            xattr::set(copy, &name, &value, place)?;
        }
    }
    let mode = Mode::from_bits_truncate(seen.st_mode);
    fchmod(copy, mode).context("change the mode of the copy of", place)?;
    let (accessed, modified) = times(seen);
    futimens(copy, &accessed, &modified).context("set the times of the copy of", place)?;
    Ok(())
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Of the clock by which files are stamped; nanoseconds since 1970.
fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |now| {
        now.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec())
    })
}
