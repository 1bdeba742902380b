import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { addTaskCancel } from './task-cancel.ts';
import { addTaskGet } from './task-get.ts';
import { addTaskList } from './task-list.ts';
import { addTaskPublish } from './task-publish.ts';
import { addTaskResult } from './task-result.ts';
import { addTaskWhy } from './task-why.ts';

/** `agenthub task` */
export function addTask(program: Command, cli: Cli): void {
  const task = program
    .command('task')
    .description('Publish tasks, look at them, cancel them, take their results');
  addTaskPublish(task, cli);
  addTaskGet(task, cli);
  addTaskWhy(task, cli);
  addTaskList(task, cli);
  addTaskCancel(task, cli);
  addTaskResult(task, cli);
}
