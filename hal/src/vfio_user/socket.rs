//! One end of a vfio-user connection: whole messages with their file descriptors.
#![allow(unsafe_code)] // Descriptors come out of a control message as numbers; one block makes them owned.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use zerocopy::{FromBytes, IntoBytes};

use super::wire::{HEADER, Header, MAX_BODY, MAX_FDS};

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What follows.
    pub body: Vec<u8>,
    /// Descriptors that came with it; closed when not taken.
    pub fds: Vec<OwnedFd>,
}

/// A connected socket. Sending is possible from several threads, receiving from one.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    /// Held while a message goes out, so that messages do not mix.
    sending: Mutex<()>,
}

impl Socket {
    /// Over a connected stream.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, sending: Mutex::new(()) }
    }

    /// Ends the connection: the other end, and a thread that receives here, see its end.
    pub fn shutdown(&self) {
        // Fails only when the connection has ended already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message; its length is filled in.
    pub fn send(&self, mut header: Header, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        header.size = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let _guard = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(body)];
        let mut sent = retry(|| sendmsg::<()>(self.stream.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None))?;
        // The socket's buffer may take less than a message; descriptors went with the first part.
        let whole = [header.as_bytes(), body].concat();
        while sent < whole.len() {
            let rest = [IoSlice::new(&whole[sent..])];
            sent += retry(|| sendmsg::<()>(self.stream.as_raw_fd(), &rest, &[], MsgFlags::MSG_NOSIGNAL, None))?;
        }
        Ok(())
    }

    /// Receives a message; `None` at the end of the connection. Absurd lengths are an error.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = [0u8; HEADER];
        let mut fds = Vec::new();
        let mut got = 0;
        while got < HEADER {
            let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
            let mut parts = [IoSliceMut::new(&mut bytes[got..])];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let received = match recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            for message in received.cmsgs()? {
                if let ControlMessageOwned::ScmRights(numbers) = message {
                    // SAFETY: the kernel has just made these descriptors for this process; nobody else knows them.
                    fds.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            match received.bytes {
                0 if got == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => got += n,
            }
        }
        let header = Header::read_from_bytes(&bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        let len = (header.size as usize)
            .checked_sub(HEADER)
            .filter(|len| *len <= MAX_BODY)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("a message of {} bytes", header.size)))?;
        let mut body = vec![0; len];
        (&self.stream).read_exact(&mut body)?;
        Ok(Some(Message { header, body, fds }))
    }
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() -> io::Result<()> {
        let (a, b) = UnixStream::pair()?;
        let (a, b) = (Socket::new(a), Socket::new(b));
        let mut file = tempfile::tempfile()?;
        file.write_all(b"through the socket")?;
        let body: Vec<u8> = (0..MAX_BODY).map(|i| i as u8).collect();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                a.send(Header { id: 7, command: 2, ..Header::default() }, b"short", &[file.as_fd()])?;
                // Longer than a socket buffer.
                a.send(Header { id: 8, ..Header::default() }, &body, &[])
            });
            let first = b.receive()?.expect("a message");
            assert_eq!((first.header.id, first.header.size, first.body.as_slice()), (7, 21, &b"short"[..]));
            let mut got = File::from(first.fds.into_iter().next().expect("a descriptor"));
            got.rewind()?;
            assert_eq!(io::read_to_string(got)?, "through the socket");
            let second = b.receive()?.expect("a message");
            assert_eq!((second.header.id, second.body == body, second.fds.len()), (8, true, 0));
            sender.join().expect("no panic")
        })?;
        drop(a);
        assert!(b.receive()?.is_none(), "end of the connection");
        Ok(())
    }

    #[test]
    fn absurd_lengths_and_broken_messages_are_errors() -> io::Result<()> {
        for size in [0u32, 15, u32::MAX, (HEADER + MAX_BODY) as u32 + 1] {
            let (a, b) = UnixStream::pair()?;
            (&a).write_all(Header { size, ..Header::default() }.as_bytes())?;
            assert!(Socket::new(b).receive().is_err(), "{size}");
        }
        let (a, b) = UnixStream::pair()?;
        (&a).write_all(&[1, 2, 3])?;
        drop(a);
        assert!(Socket::new(b).receive().is_err());
        Ok(())
    }
}
