//! Waits for many sockets and for a moment, as exactly as the kernel's timers are.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// Marks the timer among the sockets.
const TIMER: u64 = u64::MAX;

/// How many sockets are reported at once.
const BATCH: usize = 256;

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub(crate) struct Events {
    epoll: OwnedFd,
    timer: OwnedFd,
    batch: Vec<epoll::Event>,
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Edge-triggered: the timer is set again, and never read.
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok(Self { epoll, timer, batch: Vec::with_capacity(BATCH) })
    }

    /// Report this socket by its number when it has something to read.
    pub(crate) fn add(&self, socket: &TcpStream, number: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number as u64);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// Wait until sockets have something to read, or until a moment; put the numbers of the sockets into `ready`.
    pub(crate) fn wait_until(&mut self, moment: Instant, ready: &mut Vec<usize>) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        let timeout = if left.is_zero() {
            Some(&NOW)
        } else {
            let it_value = left.try_into().map_err(io::Error::other)?;
            let once = Itimerspec { it_interval: NOW, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            None
        };
        self.batch.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.batch), timeout)?;
        ready.clear();
        let numbers = self.batch.iter().map(|event| event.data.u64()).filter(|number| *number != TIMER);
        ready.extend(numbers.filter_map(|number| usize::try_from(number).ok()));
        Ok(())
    }
}
