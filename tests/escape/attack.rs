//! What tries to get out: this test program itself, started inside a sandbox with a hidden first argument.
//!
//! One attack per process. It prints `ok` when it had its way, the number of the error when it was refused, or a word.
#![allow(unsafe_code, reason = "attacks are raw system calls")]

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use nix::libc;

/// The first argument that makes this program an attack.
pub(super) const ARGUMENT: &str = "__attack";

/// Runs before the test harness's own main, which would not know the argument.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = before_main;

extern "C" fn before_main(_: c_int, _: *const *const c_char, _: *const *const c_char) {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(ARGUMENT) {
        return;
    }
    let args: Vec<String> = args.collect();
    let said = match act(&args) {
        Ok(word) => word,
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string()),
    };
    println!("{said}");
    std::process::exit(0);
}

type Done = io::Result<String>;

fn ok() -> Done {
    Ok("ok".to_owned())
}

fn check(result: c_long) -> Done {
    if result < 0 { Err(io::Error::last_os_error()) } else { ok() }
}

/// A raw system call with number arguments.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: an attack is a process of its own, which ends right after.
        check(unsafe { libc::syscall($number as c_long $(, $argument as c_long)*) })
    };
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn act(args: &[String]) -> Done {
    let name = args[0].as_str();
    let rest: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    match (name, rest.as_slice()) {
        ("read", [path]) => read(path),
        ("open-to-write", [path]) => fs::OpenOptions::new().write(true).open(path).and_then(|_| ok()),
        ("write", [path, text]) => {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))?;
            ok()
        }
        ("list", [path]) => Ok(format!("{} entries", fs::read_dir(path)?.count())),
        ("link-of", [path]) => Ok(fs::read_link(path)?.display().to_string()),
        ("mkdir", [path]) => fs::create_dir(path).and_then(|()| ok()),
        ("chmod", [path]) => {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).and_then(|()| ok())
        }
        ("set-attribute", [path, key, value]) => {
            rustix::fs::setxattr(*path, *key, value.as_bytes(), rustix::fs::XattrFlags::empty())?;
            ok()
        }
        ("mknod", [path, kind, major, minor]) => mknod(path, kind, major, minor),
        ("use-device", [path, kind, major, minor]) => {
            mknod(path, kind, major, minor).and_then(|_| read(path))
        }
        ("connect-abstract", [name]) => connect_abstract(name),
        ("connect-tcp", [port]) => {
            std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).and_then(|_| ok())
        }
        ("shm", [key]) => call!(libc::SYS_shmget, key.parse::<c_long>().unwrap(), 0, 0),
        ("kill", [pid, signal]) => {
            call!(libc::SYS_kill, pid.parse::<c_long>().unwrap(), signal.parse::<c_long>().unwrap())
        }
        ("leave-chroot", []) => leave_chroot(),
        ("walk-up", [path]) => {
            std::env::set_current_dir("/")?;
            fs::metadata(format!("{}{path}", "../".repeat(64))).and_then(|_| ok())
        }
        ("open-descriptors", []) => open_descriptors(),
        ("fork-bomb", []) => fork_bomb(),
        ("descriptor-bomb", []) => descriptor_bomb(),
        ("linger", [word]) => linger(word),
        ("trace", [pid]) => {
            call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, pid.parse::<c_long>().unwrap(), 0, 0)
        }
        ("trace-child", []) => trace_child(),
        ("read-memory", [pid]) => read_memory(pid.parse().unwrap()),
        ("take-descriptor", [pid]) => {
            let pidfd = pidfd(pid.parse().unwrap())?;
            call!(libc::SYS_pidfd_getfd, pidfd, 0, 0)
        }
        ("enter-namespace", [pid]) => {
            call!(libc::SYS_setns, pidfd(pid.parse().unwrap())?, libc::CLONE_NEWUSER)
        }
        ("compare", [pid]) => {
            let me = std::process::id();
            // KCMP_FILE
            call!(libc::SYS_kcmp, pid.parse::<c_long>().unwrap(), me, 0, 0, 0)
        }
        ("socket", [family]) => {
            call!(libc::SYS_socket, family.parse::<c_long>().unwrap(), libc::SOCK_DGRAM, 0)
        }
        ("socket-stream", [family]) => {
            call!(libc::SYS_socket, family.parse::<c_long>().unwrap(), libc::SOCK_SEQPACKET, 0)
        }
        ("terminal", [command]) => {
            let byte = b'x';
            call!(libc::SYS_ioctl, 0, command.parse::<c_long>().unwrap(), &raw const byte)
        }
        ("personality", [bits]) => call!(libc::SYS_personality, bits.parse::<c_long>().unwrap()),
        ("old-convention", rest) => old_convention(rest),
        (other, []) => kernel(other),
        other => panic!("no such attack: {other:?}"),
    }
}

/// System calls that the filter knows.
fn kernel(name: &str) -> Done {
    let empty = c"";
    let root = c"/";
    let mut words = [0u64; 64];
    let memory = std::hint::black_box(words.as_mut_ptr());
    match name {
        "keyctl" => call!(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, -3, 0),
        "keyctl-join" => call!(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0),
        "add-key" => {
            let (kind, about) = (c"user", c"treebox-escape");
            call!(libc::SYS_add_key, kind.as_ptr(), about.as_ptr(), kind.as_ptr(), 4, -2)
        }
        "request-key" => {
            let (kind, about) = (c"user", c"treebox-no-such-key");
            call!(libc::SYS_request_key, kind.as_ptr(), about.as_ptr(), 0, 0)
        }
        "bpf" => call!(libc::SYS_bpf, 0, memory, 16),
        "perf" => {
            // A software clock of this process, in user mode: what any user may have where perf is open to users.
            words[0] = 1 | (64 << 32);
            words[5] = 0b110_0000;
            std::hint::black_box(&mut words);
            call!(libc::SYS_perf_event_open, memory, 0, -1, -1, 0)
        }
        "userfaultfd" => call!(libc::SYS_userfaultfd, 1),
        "io-uring" => call!(libc::SYS_io_uring_setup, 1, memory),
        "clone-user" => clone_with(libc::CLONE_NEWUSER),
        "clone-mount" => clone_with(libc::CLONE_NEWNS),
        "clone3" => call!(libc::SYS_clone3, memory, 0),
        "unshare-user" => call!(libc::SYS_unshare, libc::CLONE_NEWUSER),
        "unshare-network" => call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
        "unshare-files" => call!(libc::SYS_unshare, libc::CLONE_FILES),
        "setns" => call!(libc::SYS_setns, -1, 0),
        "mount" => mount("tmpfs", "/tmp", "tmpfs", 0),
        "mount-proc" => mount("proc", "/tmp", "proc", 0),
        "mount-cgroup" => mount("cgroup", "/tmp", "cgroup", 0),
        "mount-over-root" => mount("/", "/tmp", "", libc::MS_BIND),
        "remount-proc-sys" => mount("", "/proc/sys", "", libc::MS_BIND | libc::MS_REMOUNT),
        "share-mounts" => mount("", "/", "", libc::MS_SHARED | libc::MS_REC),
        "nested-mount" => {
            call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            mount("tmpfs", "/tmp", "tmpfs", 0)
        }
        "nested-cgroup" => {
            call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP)?;
            mount("cgroup", "/tmp", "cgroup", 0)
        }
        "nested-remount" => {
            call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            mount("", "/proc/sys", "", libc::MS_BIND | libc::MS_REMOUNT)
        }
        "nested-uncover" => {
            call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
            let path = c("/proc/keys");
            call!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH)
        }
        "uncover" => {
            let path = c("/proc/keys");
            call!(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH)
        }
        "pivot-root" => call!(libc::SYS_pivot_root, root.as_ptr(), root.as_ptr()),
        "open-tree" => call!(libc::SYS_open_tree, libc::AT_FDCWD, root.as_ptr(), 0),
        "fsopen" => call!(libc::SYS_fsopen, c("tmpfs").as_ptr(), 0),
        "move-mount" => {
            call!(libc::SYS_move_mount, libc::AT_FDCWD, root.as_ptr(), libc::AT_FDCWD, root.as_ptr(), 0)
        }
        "mount-setattr" => {
            call!(libc::SYS_mount_setattr, libc::AT_FDCWD, root.as_ptr(), 0, memory, 32)
        }
        "open-by-handle" => open_by_handle(),
        // FAN_REPORT_FID, which a user may have since Linux 5.13.
        "fanotify" => call!(libc::SYS_fanotify_init, 0x200, 0),
        "clock-settime" => call!(libc::SYS_clock_settime, libc::CLOCK_REALTIME, 0),
        "settimeofday" => call!(libc::SYS_settimeofday, 0, memory),
        "adjtimex" => call!(libc::SYS_adjtimex, memory),
        "reboot" => call!(libc::SYS_reboot, 0, 0, 0, 0),
        "swapon" => call!(libc::SYS_swapon, empty.as_ptr(), 0),
        "swapoff" => call!(libc::SYS_swapoff, empty.as_ptr()),
        "acct" => call!(libc::SYS_acct, empty.as_ptr()),
        "quotactl" => call!(libc::SYS_quotactl, -1, 0, 0, 0),
        "vhangup" => call!(libc::SYS_vhangup),
        // The size of the message buffer.
        "syslog" => call!(libc::SYS_syslog, 10, 0, 0),
        "init-module" => call!(libc::SYS_init_module, 0, 0, 0),
        "finit-module" => call!(libc::SYS_finit_module, -1, 0, 0),
        "delete-module" => call!(libc::SYS_delete_module, empty.as_ptr(), 0),
        "kexec-load" => call!(libc::SYS_kexec_load, 0, 0, 0, -1),
        #[cfg(target_arch = "x86_64")]
        "iopl" => call!(libc::SYS_iopl, 3),
        #[cfg(target_arch = "x86_64")]
        "ioperm" => call!(libc::SYS_ioperm, 0x80, 1, 1),
        "raise-priority" => call!(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, -20),
        "real-time" => {
            let priority: c_int = 1;
            call!(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &raw const priority)
        }
        "raise-limit" => {
            let limit = libc::rlimit64 { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
            call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0)
        }
        "hostname" => call!(libc::SYS_sethostname, c("pwned").as_ptr(), 5),
        "raw-socket" => call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        "host-key" => {
            let (kind, about) = (c"user", c"treebox-host-secret");
            // KEYCTL_SEARCH in the session keyring.
            call!(libc::SYS_keyctl, 10, -3, kind.as_ptr(), about.as_ptr(), 0)
        }
        other => panic!("no such attack: {other}"),
    }
}

fn read(path: &str) -> Done {
    let mut bytes = [0; 64];
    let count = fs::File::open(path)?.read(&mut bytes)?;
    Ok(if count == 0 { "empty".to_owned() } else { "ok".to_owned() })
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> Done {
    let (source, target, kind) = (c(source), c(target), c(kind));
    call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, 0)
}

fn clone_with(flags: c_int) -> Done {
    // SAFETY: like fork; the child ends at once.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize) };
    if pid == 0 {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) }
    }
    check(pid)
}

fn mknod(path: &str, kind: &str, major: &str, minor: &str) -> Done {
    let kind = if kind == "b" { libc::S_IFBLK } else { libc::S_IFCHR };
    let device = libc::makedev(major.parse().unwrap(), minor.parse().unwrap());
    let path = c(path);
    call!(libc::SYS_mknodat, libc::AT_FDCWD, path.as_ptr(), kind | 0o666, device)
}

fn connect_abstract(name: &str) -> Done {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    std::os::unix::net::UnixStream::connect_addr(&address).and_then(|_| ok())
}

fn pidfd(pid: c_long) -> io::Result<c_long> {
    // SAFETY: no memory arguments.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0usize) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// The old way out of a chroot: keep a directory outside, make another root, walk up.
fn leave_chroot() -> Done {
    fs::create_dir_all("/tmp/cage")?;
    let root = fs::File::open("/")?;
    std::os::unix::fs::chroot("/tmp/cage")?;
    call!(libc::SYS_fchdir, root.as_raw_fd())?;
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    std::os::unix::fs::chroot(".")?;
    fs::metadata("/attack").map(|_| "still inside".to_owned())
}

/// Descriptors beyond the standard ones that lead anywhere.
fn open_descriptors() -> Done {
    let mut found = Vec::new();
    for number in 3..1024 {
        // SAFETY: no memory arguments.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            found.push(format!("{number}: {:?}", fs::read_link(format!("/proc/self/fd/{number}"))));
        }
    }
    Ok(if found.is_empty() { "none".to_owned() } else { found.join(", ") })
}

/// Children until there can be no more.
fn fork_bomb() -> Done {
    let mut count = 0u32;
    loop {
        // SAFETY: without CLONE_VM, so the child has a copy of the stack; it only waits.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize) };
        match pid {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => {
                let errno = io::Error::last_os_error().raw_os_error().unwrap();
                return Ok(format!("{count} {errno}"));
            }
            _ => count += 1,
        }
    }
}

fn descriptor_bomb() -> Done {
    let mut held = Vec::new();
    // As far as a process may go by itself.
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, &raw mut limit)?;
    limit.rlim_cur = limit.rlim_max.min(4096);
    call!(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0)?;
    loop {
        match fs::File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => return Ok(format!("{}", error.raw_os_error().unwrap())),
        }
    }
}

/// Leaves a process behind that has cut every tie.
fn linger(word: &str) -> Done {
    // SAFETY: this process has one thread.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: as above.
        unsafe {
            libc::setsid();
            if libc::fork() != 0 {
                libc::_exit(0);
            }
            for signal in 1..64 {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
        let name = c(word);
        let _ = call!(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
        loop {
            // SAFETY: sleeps.
            unsafe { libc::sleep(1000) };
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    ok()
}

fn trace_child() -> Done {
    // SAFETY: this process has one thread; the child only waits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let traced = call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, child, 0, 0);
    call!(libc::SYS_kill, child, libc::SIGKILL)?;
    traced
}

fn read_memory(pid: c_long) -> Done {
    let mut bytes = [0u8; 8];
    let here = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: 0x1000 as *mut _, iov_len: 8 };
    call!(libc::SYS_process_vm_readv, pid, &raw const here, 1, &raw const there, 1, 0)
}

/// As the program that gave this attack its name did: any file of a file system by its inode number.
fn open_by_handle() -> Done {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle { bytes: 8, kind: 1, data: [0; 128] };
    // Inode 2: the root of an ext file system.
    handle.data[0] = 2;
    let mount = fs::File::open("/")?;
    call!(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const handle, libc::O_RDONLY)
}

/// A call in the convention of 32-bit programs, or of x32; its error comes back as a negative number.
#[cfg(target_arch = "x86_64")]
fn old_convention(args: &[&str]) -> Done {
    if let ["x32", number] = args {
        return call!(0x4000_0000 | number.parse::<c_long>().unwrap(), 0, 0, 0);
    }
    let numbers: Vec<u64> = args.iter().map(|word| word.parse().unwrap()).collect();
    // SAFETY: anonymous memory below 4 GiB, where 32-bit pointers reach; its words are the arguments of socketcall.
    let memory = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let memory = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        let words = memory.cast::<u32>();
        words.write(numbers[2] as u32);
        words.add(1).write(libc::SOCK_SEQPACKET as u32);
        memory as u64
    };
    let result: i64;
    // SAFETY: the interrupt of 32-bit system calls changes rax, and r8 to r11 on some processors; rbx is put back by hand.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) numbers[1] => _,
            inout("rax") numbers[0] as i64 => result,
            in("rcx") memory, in("rdx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = result as i32;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { ok() }
}

#[cfg(not(target_arch = "x86_64"))]
fn old_convention(_: &[&str]) -> Done {
    Ok("not on this machine".to_owned())
}

/// Puts a key into this process's session keyring, which children share unless they leave it.
pub(super) fn hold_a_key() -> io::Result<()> {
    let (kind, about) = (c"user", c"treebox-host-secret");
    call!(libc::SYS_add_key, kind.as_ptr(), about.as_ptr(), kind.as_ptr(), 4, -3).map(drop)
}

/// Makes a System V shared memory segment under a key of its own and gives both; `remove_segment` takes it away.
pub(super) fn make_segment() -> (i32, i32) {
    let key = 0x7462_0000 | (std::process::id() & 0xffff) as i32;
    // SAFETY: no memory arguments.
    let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o600) };
    assert!(id >= 0, "{}", io::Error::last_os_error());
    (key, id)
}

pub(super) fn remove_segment(id: i32) {
    // SAFETY: this command reads no memory.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
}
