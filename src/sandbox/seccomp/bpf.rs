//! From rules to a classic BPF program over `struct seccomp_data`.

use nix::libc;

/// A system call convention: calls have other numbers in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(dead_code, reason = "each architecture uses its own two")]
pub(crate) enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also of programs on a 64-bit kernel.
    X86,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, also of programs on a 64-bit kernel.
    Arm,
}

impl Abi {
    /// The conventions that programs on this machine can use, its own first.
    pub(crate) const HERE: &[Self] =
        if cfg!(target_arch = "aarch64") { &[Self::Aarch64, Self::Arm] } else { &[Self::X86_64, Self::X86] };

    /// The convention of that `AUDIT_ARCH_` number.
    pub(crate) fn of_arch(arch: u32) -> Option<Self> {
        [Self::X86_64, Self::X86, Self::Aarch64, Self::Arm].into_iter().find(|abi| abi.audit_arch() == arch)
    }

    /// Its `AUDIT_ARCH_` number (linux/audit.h): the ELF machine, with bits for 64-bit and little-endian.
    fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Errno(i32),
    /// The process waits for the supervisor's answer.
    Notify,
}

impl Verdict {
    fn action(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// A condition on the lower 32 bits of an argument, counted from 0. Flags and commands are no longer than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// The argument is this value.
    Is(u8, u32),
    /// The argument has one of these bits.
    HasAny(u8, u32),
}

/// One rule: the verdict on a call, perhaps only with certain arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The call's number in the rule's convention.
    pub(crate) call: u32,
    /// When the rule applies; without a test always.
    pub(crate) when: Option<Test>,
    /// What happens.
    pub(crate) verdict: Verdict,
}

/// Rules for each convention. Of the rules for one call the first that applies decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Conventions that are not listed kill the process that uses them.
    pub(crate) rules: Vec<(Abi, Vec<Rule>)>,
}

/// Numbers from here on are x32, a convention with x86-64's architecture number that nothing uses any more.
const X32_BIT: u32 = 0x4000_0000;

// Offsets in struct seccomp_data; the lower half of an argument comes first (little-endian only).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

impl Filter {
    /// The program, as the kernel takes it.
    pub(crate) fn compile(&self) -> Vec<libc::sock_filter> {
        const { assert!(cfg!(target_endian = "little"), "seccomp arguments are read as little-endian") };
        let mut program = vec![load(ARCH)];
        for (abi, rules) in &self.rules {
            let block = block(*abi, rules);
            // Over the jump into the block, or on to the jump past it.
            program.push(jump(libc::BPF_JEQ, abi.audit_arch(), 1, 0));
            program.push(go(block.len() as u32));
            program.extend(block);
        }
        program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
        program
    }
}

fn block(abi: Abi, rules: &[Rule]) -> Vec<libc::sock_filter> {
    let mut block = vec![load(NUMBER)];
    if abi == Abi::X86_64 {
        block.push(jump(libc::BPF_JGE, X32_BIT, 0, 1));
        block.push(answer(Verdict::Errno(libc::ENOSYS).action()));
    }
    let mut done: Vec<u32> = Vec::new();
    for rule in rules {
        if done.contains(&rule.call) {
            continue;
        }
        done.push(rule.call);
        let of_call = of_call(rules.iter().filter(|other| other.call == rule.call));
        // The offset of a conditional jump is a byte; no call has that many rules.
        block.push(jump(libc::BPF_JEQ, rule.call, 0, of_call.len() as u8));
        block.extend(of_call);
    }
    block.push(answer(libc::SECCOMP_RET_ALLOW));
    block
}

/// The rules of one call, in order.
fn of_call<'r>(rules: impl Iterator<Item = &'r Rule>) -> Vec<libc::sock_filter> {
    let mut code = Vec::new();
    for rule in rules {
        let (load_argument, condition) = match rule.when {
            None => {
                code.push(answer(rule.verdict.action()));
                return code;
            }
            Some(Test::Is(at, value)) => (load(ARGS + 8 * u32::from(at)), jump(libc::BPF_JEQ, value, 0, 1)),
            Some(Test::HasAny(at, bits)) => {
                (load(ARGS + 8 * u32::from(at)), jump(libc::BPF_JSET, bits, 0, 1))
            }
        };
        code.extend([load_argument, condition, answer(rule.verdict.action())]);
    }
    code.push(answer(libc::SECCOMP_RET_ALLOW));
    code
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(condition: u32, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, value, yes, no)
}

fn go(over: u32) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, over, 0, 0)
}

fn answer(action: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would say: the few instructions that `compile` makes, interpreted.
    fn verdict(filter: &Filter, arch: u32, call: u32, args: [u32; 6]) -> u32 {
        let program = filter.compile();
        let (mut at, mut register) = (0, 0u32);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    register = match step.k {
                        NUMBER => call,
                        ARCH => arch,
                        offset => args[((offset - ARGS) / 8) as usize],
                    };
                }
                code if code == libc::BPF_RET | libc::BPF_K => return step.k,
                code if code == libc::BPF_JMP | libc::BPF_JA => at += step.k as usize,
                code => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => register == step.k,
                        libc::BPF_JGE => register >= step.k,
                        libc::BPF_JSET => register & step.k != 0,
                        other => panic!("unexpected jump {other:#x}"),
                    };
                    at += usize::from(if holds { step.jt } else { step.jf });
                }
            }
        }
    }

    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number as u32
    }

    #[test]
    fn every_rule_is_found_and_nothing_else_is_touched() {
        let rule = |call, when, verdict| Rule { call, when, verdict };
        let many = (100..400).map(|call| rule(call, None, Verdict::Errno(call as i32)));
        let native = [
            rule(1, None, Verdict::Errno(libc::EPERM)),
            rule(2, Some(Test::HasAny(0, 0x30)), Verdict::Errno(libc::EACCES)),
            rule(2, Some(Test::Is(1, 7)), Verdict::Notify),
        ];
        let other = vec![rule(1, None, Verdict::Notify)];
        let rules = vec![(Abi::X86_64, native.into_iter().chain(many).collect()), (Abi::X86, other)];
        let filter = Filter { rules };
        let here = |call, args| verdict(&filter, Abi::X86_64.audit_arch(), call, args);
        assert_eq!(here(1, [0; 6]), errno(libc::EPERM));
        assert_eq!(here(2, [0x20, 7, 0, 0, 0, 0]), errno(libc::EACCES));
        assert_eq!(here(2, [0x40, 7, 0, 0, 0, 0]), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(here(2, [0x40, 8, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(here(3, [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert!((100..400).all(|call| here(call, [0; 6]) == errno(call as i32)));
        assert_eq!(here(X32_BIT | 1, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(verdict(&filter, Abi::X86.audit_arch(), 1, [0; 6]), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(verdict(&filter, Abi::X86.audit_arch(), 2, [0x20; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(verdict(&filter, Abi::Arm.audit_arch(), 1, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
