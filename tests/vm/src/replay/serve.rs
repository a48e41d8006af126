//! A disk as a power cut has left it, served to a machine. Nothing is copied: what is asked for is read where it lies, in
//! the base or in the log, and what the machine writes goes to a file that is thrown away.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use tempfile::TempDir;

use super::content::{Content, Source};
use super::cut::Cut;
use super::log::WriteLog;
use super::nbd::{self, Export};
use crate::{Disk, VmError};

/// The disk. It shows the base until it is told what to show.
#[derive(Debug)]
pub struct CrashDisk {
    log: WriteLog,
    store: Arc<Store>,
    directory: TempDir,
}

#[derive(Debug)]
struct Store {
    size: u64,
    base: File,
    log: File,
    scratch: File,
    /// None: a disk of zeros, which nobody takes for one of his own.
    content: RwLock<Option<Content>>,
}

impl CrashDisk {
    /// A disk on which `base`, the disk before it was recorded, and the log of its writes are.
    pub fn start(base: &Path, log: WriteLog) -> Result<CrashDisk, VmError> {
        let directory = tempfile::Builder::new()
            .prefix("atalaya-crash-")
            .tempdir()
            .map_err(VmError::io("make", "a temporary directory"))?;
        let open = |path: &Path| -> Result<File, VmError> {
            File::open(path).map_err(VmError::io("open", path.display().to_string()))
        };
        let base = open(base)?;
        let size = base
            .metadata()
            .map_err(VmError::io("look at", "the base"))?
            .len();
        let store = Arc::new(Store {
            size,
            log: open(log.path())?,
            base,
            scratch: tempfile::tempfile_in(directory.path())
                .map_err(VmError::io("make", "a scratch file"))?,
            content: RwLock::new(None),
        });
        let socket = socket(&directory);
        let listener = UnixListener::bind(&socket)
            .map_err(VmError::io("listen on", socket.display().to_string()))?;
        let served = Arc::clone(&store);
        thread::Builder::new()
            .name("crash-disk".to_owned())
            .spawn(move || accept(&listener, &served))
            .map_err(VmError::io("start", "the thread that serves a disk"))?;
        Ok(CrashDisk {
            log,
            store,
            directory,
        })
    }

    /// The disk, for a machine.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk::served(socket(&self.directory))
    }

    /// What was recorded.
    #[must_use]
    pub fn log(&self) -> &WriteLog {
        &self.log
    }

    /// From now on the disk is as this cut has left it; what a machine has written since is gone. A machine that has it
    /// must be made to forget what it read.
    pub fn show(&self, cut: &Cut) -> Result<(), VmError> {
        self.replace(Some(Content::after(self.log.entries(), cut)))
    }

    /// From now on it is a disk of zeros.
    pub fn blank(&self) -> Result<(), VmError> {
        self.replace(None)
    }

    /// Zeros over a part of what is shown.
    pub fn zero(&self, from: u64, length: u64) -> Result<(), VmError> {
        let zeroed = self.store.zero(from, length);
        zeroed.map_err(VmError::io("zero", "a part of the disk"))
    }

    /// Lets somebody change a part of what is shown, by tools that want a file.
    pub fn edit<T, E: From<VmError>>(
        &self,
        from: u64,
        length: u64,
        change: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.directory.path().join("part");
        let failed = |operation| VmError::io(operation, path.display().to_string());
        self.copy_out(from, length, &path).map_err(failed("make"))?;
        let given = change(&path)?;
        self.copy_in(from, length, &path).map_err(failed("read"))?;
        std::fs::remove_file(&path).map_err(failed("remove"))?;
        Ok(given)
    }

    fn copy_out(&self, from: u64, length: u64, path: &Path) -> io::Result<()> {
        let part = File::create(path)?;
        part.set_len(length)?;
        each_piece(length, |at, piece| {
            self.store.read(from + at, piece)?;
            match piece.iter().all(|&byte| byte == 0) {
                true => Ok(()),
                false => part.write_all_at(piece, at),
            }
        })
    }

    fn copy_in(&self, from: u64, length: u64, path: &Path) -> io::Result<()> {
        let part = File::open(path)?;
        let mut shown = vec![0; PIECE];
        each_piece(length, |at, piece| {
            part.read_exact_at(piece, at)?;
            let shown = &mut shown[..piece.len()];
            self.store.read(from + at, shown)?;
            match shown == piece {
                true => Ok(()),
                false => self.store.write(from + at, piece),
            }
        })
    }

    fn replace(&self, content: Option<Content>) -> Result<(), VmError> {
        let mut shown = self.store.lock_to_change();
        self.store
            .scratch
            .set_len(0)
            .map_err(VmError::io("empty", "the scratch file"))?;
        *shown = content;
        Ok(())
    }
}

impl Drop for CrashDisk {
    fn drop(&mut self) {
        // The thread that waits for clients ends with the next one, if the socket's file is gone by then.
        let socket = socket(&self.directory);
        let last = UnixStream::connect(&socket);
        std::fs::remove_file(&socket).ok();
        drop(last);
    }
}

/// What is copied at once.
const PIECE: usize = 1 << 16;

fn each_piece(
    length: u64,
    mut act: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let size = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        act(at, &mut piece[..size])?;
        at += size as u64;
    }
    Ok(())
}

fn socket(directory: &TempDir) -> PathBuf {
    directory.path().join("socket")
}

fn accept(listener: &UnixListener, store: &Arc<Store>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let gone = listener
            .local_addr()
            .ok()
            .and_then(|address| address.as_pathname().map(|path| !path.exists()))
            .unwrap_or(true);
        if gone {
            return;
        }
        let store = Arc::clone(store);
        // A client that breaks off is a machine whose plug was pulled.
        let talk = move || drop(nbd::serve(&mut stream, &*store));
        if thread::Builder::new()
            .name("crash-disk".to_owned())
            .spawn(talk)
            .is_err()
        {
            return;
        }
    }
}

impl Store {
    fn lock(&self) -> RwLockReadGuard<'_, Option<Content>> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_to_change(&self) -> RwLockWriteGuard<'_, Option<Content>> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Export for Store {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.lock();
        let Some(content) = content.as_ref() else {
            buffer.fill(0);
            return Ok(());
        };
        let (mut at, mut rest) = (from, buffer);
        while !rest.is_empty() {
            let (source, length) = content.find(at, rest.len() as u64);
            let (part, behind) = rest.split_at_mut(usize::try_from(length).unwrap_or(usize::MAX));
            match source {
                Source::Base => self.base.read_exact_at(part, at)?,
                Source::Log(place) => self.log.read_exact_at(part, place)?,
                Source::Scratch => self.scratch.read_exact_at(part, at)?,
                Source::Zero => part.fill(0),
            }
            (at, rest) = (at + length, behind);
        }
        Ok(())
    }

    fn write(&self, from: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.lock_to_change();
        let content = content.get_or_insert_default();
        self.scratch.write_all_at(bytes, from)?;
        content.lay(from, bytes.len() as u64, Source::Scratch);
        Ok(())
    }

    fn zero(&self, from: u64, length: u64) -> io::Result<()> {
        let mut content = self.lock_to_change();
        content
            .get_or_insert_default()
            .lay(from, length, Source::Zero);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::replay::Dice;
    use crate::replay::log::tests::write as write_log;

    struct Client(UnixStream);

    impl Client {
        /// As QEMU does it.
        fn connect(disk: &CrashDisk) -> (Client, u64) {
            let mut stream = UnixStream::connect(socket(&disk.directory)).unwrap();
            let mut greeting = [0; 18];
            stream.read_exact(&mut greeting).unwrap();
            assert!(greeting.starts_with(b"NBDMAGICIHAVEOPT"));
            stream.write_all(&3_u32.to_be_bytes()).unwrap();
            // Structured replies are asked for first, and refused.
            for (option, data) in [(8_u32, &[][..]), (7, &[0; 6])] {
                stream.write_all(b"IHAVEOPT").unwrap();
                stream.write_all(&option.to_be_bytes()).unwrap();
                let length = data.len() as u32;
                stream.write_all(&length.to_be_bytes()).unwrap();
                stream.write_all(data).unwrap();
            }
            let mut refusal = [0; 20];
            stream.read_exact(&mut refusal).unwrap();
            assert_eq!(refusal[12..16], (1_u32 << 31 | 1).to_be_bytes());
            let mut about = [0; 20 + 12 + 20];
            stream.read_exact(&mut about).unwrap();
            let size = u64::from_be_bytes(about[22..30].try_into().unwrap());
            (Client(stream), size)
        }

        fn ask(&mut self, kind: u16, from: u64, length: u32, data: &[u8]) -> u32 {
            let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
            request.extend([0, 0]);
            request.extend(kind.to_be_bytes());
            request.extend(*b"cookie!!");
            request.extend(from.to_be_bytes());
            request.extend(length.to_be_bytes());
            request.extend(data);
            self.0.write_all(&request).unwrap();
            let mut reply = [0; 16];
            self.0.read_exact(&mut reply).unwrap();
            assert_eq!(&reply[8..], b"cookie!!");
            u32::from_be_bytes(reply[4..8].try_into().unwrap())
        }

        fn read(&mut self, from: u64, length: u32) -> Vec<u8> {
            assert_eq!(self.ask(0, from, length, &[]), 0);
            let mut data = vec![0; length as usize];
            self.0.read_exact(&mut data).unwrap();
            data
        }
    }

    #[test]
    fn a_disk_is_as_the_cut_left_it_and_forgets_what_was_written_since() {
        let base = tempfile::NamedTempFile::new().unwrap();
        base.as_file().write_all_at(&[9; 8192], 0).unwrap();
        let log = write_log(&[
            (1, 0, vec![1; 1024]),
            (0, 1, vec![]),
            (2, 0, vec![2; 512]),
            (0, 4, vec![1]),
        ]);
        let disk = CrashDisk::start(base.path(), WriteLog::read(log.path()).unwrap()).unwrap();
        let (mut client, size) = Client::connect(&disk);
        assert_eq!(size, 8192);
        assert_eq!(client.read(0, 512), [0; 512], "it shows nothing at first");

        let entries = disk.log().entries().to_vec();
        let flushed = Cut {
            position: 2,
            durable: 2,
            kept: vec![],
        };
        disk.show(&flushed).unwrap();
        let expected = [vec![9; 512], vec![1; 1024], vec![9; 512]].concat();
        assert_eq!(client.read(0, 2048), expected);

        assert_eq!(client.ask(1, 256, 512, &[7; 512]), 0);
        assert_eq!(client.ask(6, 1024, 256, &[]), 0);
        assert_eq!(client.ask(3, 0, 0, &[]), 0);
        let expected = [vec![9; 256], vec![7; 512], vec![1; 256], vec![0; 256]].concat();
        assert_eq!(client.read(0, 1280), expected);

        let all = Cut {
            position: 4,
            durable: 2,
            kept: vec![(3, 512), (2, 512)],
        };
        disk.show(&all).unwrap();
        let expected = [vec![0; 512], vec![1; 512], vec![2; 512]].concat();
        assert_eq!(client.read(0, 1536), expected);
        assert_eq!(client.ask(0, 8000, 512, &[]), 22, "behind the end");
        let edited = disk.edit(512, 4096, |path| {
            let part = File::options().read(true).write(true).open(path).unwrap();
            let mut first = [0; 512];
            part.read_exact_at(&mut first, 0).unwrap();
            part.write_all_at(&[6; 512], 1024).unwrap();
            Ok::<_, VmError>(first)
        });
        assert_eq!(edited.unwrap(), [1; 512]);
        let expected = [vec![2; 512], vec![6; 512], vec![9; 512]].concat();
        assert_eq!(client.read(1024, 1536), expected);
        for seed in 0..20 {
            let cut = Cut::at(&entries, 4, &mut Dice::new(seed));
            disk.show(&cut).unwrap();
            assert_eq!(client.read(512, 512), [1; 512], "it was flushed");
        }
    }
}
