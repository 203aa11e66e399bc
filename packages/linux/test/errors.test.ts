import { describe, expect, test } from 'vitest';
import { ERRNO, LinuxError, countOpenFds, errnoName, errnoNumber, linux, withFaults } from '../src/index.ts';

function failure(call: () => unknown): LinuxError {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(LinuxError);
    return error as LinuxError;
  }
  throw new Error('did not fail');
}

describe('LinuxError', () => {
  test('says what was attempted, on what, and why it failed', () => {
    const error = failure(() => linux.unixConnect('/nowhere/at/all.sock'));
    expect(error).toMatchObject({ name: 'LinuxError', code: 'ENOENT', errno: 2, syscall: 'connect' });
    expect(error.message).toContain("connect('/nowhere/at/all.sock'): ENOENT, no such file or directory");
  });

  test.each([
    ['close', () => linux.close(-1), 'EBADF'],
    ['dup', () => linux.dup(-1), 'EBADF'],
    ['read', () => linux.read(-1, new Uint8Array(1)), 'EBADF'],
    ['write', () => linux.write(-1, new Uint8Array(1)), 'EBADF'],
    ['fstat', () => linux.fstat(-1), 'EBADF'],
    ['sendmsg', () => linux.sendmsg(-1, new Uint8Array(1), []), 'EBADF'],
    ['recvmsg', () => linux.recvmsg(-1, new Uint8Array(1), 1), 'EBADF'],
    ['ftruncate', () => linux.ftruncate(-1, 1), 'EBADF'],
    ['mmap', () => linux.mmap({ address: 0n, lengthBytes: 0, read: true, write: false }), 'EINVAL'],
    ['ioctl', () => linux.ifUp('nosuchif0', true), 'ENODEV'],
  ])('%s', (syscall, call, code) => {
    expect(failure(call)).toMatchObject({ syscall, code, errno: ERRNO[code] });
  });

  test('writing to a socket whose peer has gone is an error, not a signal', () => {
    const [a, b] = linux.unixSocketPair();
    linux.close(b);
    expect(failure(() => linux.sendmsg(a, Uint8Array.of(1), [])).code).toBe('EPIPE');
    linux.close(a);
  });

  test('names and numbers agree', () => {
    expect(errnoNumber('EEXIST')).toBe(17);
    for (const name of Object.keys(ERRNO)) expect(ERRNO[errnoName(errnoNumber(name))]).toBe(ERRNO[name]);
    expect(errnoName(11)).toBe('EAGAIN');
    expect(errnoName(4095)).toBe('ERRNO_4095');
    expect(() => errnoNumber('ENOSUCH')).toThrow(RangeError);
  });
});

describe('withFaults', () => {
  test('fails the planned calls only', () => {
    const sys = withFaults(linux, [{ call: 'eventfd', nth: 2, errno: 'EMFILE', times: 2 }]);
    const first = sys.eventfd();
    expect(failure(() => sys.eventfd())).toMatchObject({ code: 'EMFILE', syscall: 'eventfd' });
    expect(failure(() => sys.eventfd()).code).toBe('EMFILE');
    const fourth = sys.eventfd();
    sys.close(first);
    sys.close(fourth);
  });

  test('reports EAGAIN and failures the way the real call does', () => {
    const sys = withFaults(linux, [
      { call: 'read', nth: 1, errno: 'EAGAIN' },
      { call: 'eventfdSignal', nth: 1, errno: 'EAGAIN' },
      { call: 'addSeals', nth: 1, errno: 'EPERM' },
    ]);
    const fd = sys.eventfd(1);
    expect(sys.eventfdSignal(fd)).toBe(false);
    expect(sys.eventfdSignal(fd)).toBe(true);
    expect(sys.read(fd, new Uint8Array(8))).toBeUndefined();
    expect(sys.eventfdDrain(fd)).toBe(2);
    expect(sys.addSeals(fd, 1)).toBe(false);
    sys.close(fd);
  });

  test('a failing close has released the descriptor', () => {
    const before = countOpenFds();
    const sys = withFaults(linux, [{ call: 'close', nth: 1, errno: 'EIO' }]);
    const fd = sys.eventfd();
    expect(failure(() => sys.close(fd)).code).toBe('EIO');
    expect(countOpenFds()).toBe(before);
  });

  test('refuses a plan with an unknown errno', () => {
    expect(() => withFaults(linux, [{ call: 'mmap', nth: 1, errno: 'EWHAT' }])).toThrow(RangeError);
  });
});
