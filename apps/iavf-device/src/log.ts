/** Structured logs on standard error: pino, pretty for people, one JSON object a line for programs. */
import { pino, type Logger } from 'pino';
import pretty from 'pino-pretty';
import type { Plan } from './arguments.ts';

export type { Logger };

export function createLogger(plan: Pick<Plan, 'logLevel' | 'logFormat'>): Logger {
  const options = { level: plan.logLevel, base: null };
  if (plan.logFormat === 'json') return pino(options, pino.destination({ dest: 2, sync: true }));
  return pino(options, pretty({ destination: 2, sync: true, colorize: process.stderr.isTTY, translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname', singleLine: true }));
}
