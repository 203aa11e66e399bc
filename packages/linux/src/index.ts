export * from './sys.ts';
