// Work that takes simulated time: what each task has done by now follows from the clock. Tasks live in memory and are gone
// after a reset of the BMC, as OpenBMC's are.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { collection } from './query.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'

/** One message of a task, once so much of its time has passed. */
export interface TaskMessage {
  /** 0 to 1. */
  readonly after: number
  readonly messageId: string
  readonly message: string
  readonly args: readonly string[]
  readonly severity: 'OK' | 'Warning' | 'Critical'
}

export interface Plan {
  readonly name: string
  readonly milliseconds: number
  readonly messages: readonly TaskMessage[]
  /** How it ends. */
  outcome: 'OK' | 'Warning' | 'Critical'
  /** Where it takes longer than its time. */
  readonly isFinished?: () => boolean
  /** Called once, when it is done. */
  readonly finish: () => void
  /** Called where it is given up before. */
  readonly drop?: () => void
}

export interface Task extends Plan {
  readonly id: string
  readonly startedMs: number
  isDone: boolean
  endedMs: number
}

const mostTasks = 100
/** What takes longer than so many times its time ends with a warning. */
const patience = 4

export class Tasks {
  readonly #nowMs: () => number
  readonly #changed: (task: Task) => void
  readonly all = new Map<string, Task>()
  #next = 0
  #running = 0

  /** @param changed Told of each that begins or ends. */
  constructor(nowMs: () => number, changed: (task: Task) => void) {
    this.#nowMs = nowMs
    this.#changed = changed
  }

  get isActive(): boolean {
    return this.#running > 0
  }

  begin(plan: Plan): Task {
    const task: Task = {
      ...plan,
      id: String(this.#next++),
      startedMs: this.#nowMs(),
      isDone: false,
      endedMs: 0,
    }
    this.all.set(task.id, task)
    this.#running++
    this.#changed(task)
    this.#makeRoom()
    return task
  }

  /** Ends those whose time has passed. */
  advance(): void {
    if (this.#running === 0) return
    for (const task of this.all.values()) {
      const tookMs = this.#nowMs() - task.startedMs
      const isLate = tookMs >= task.milliseconds * patience
      const isOver = tookMs >= task.milliseconds && (isLate || task.isFinished?.() !== false)
      if (task.isDone || !isOver) continue
      if (task.isFinished?.() === false) task.outcome = 'Warning'
      this.#end(task)
      task.finish()
      this.#changed(task)
    }
  }

  remove(task: Task): void {
    if (!task.isDone) {
      this.#end(task)
      task.drop?.()
    }
    this.all.delete(task.id)
  }

  clear(): void {
    for (const one of this.all.values()) this.remove(one)
  }

  /** How much of it is done, 0 to 1. */
  progress({ startedMs, milliseconds, isDone }: Task): number {
    return isDone ? 1 : Math.min(0.99, (this.#nowMs() - startedMs) / milliseconds)
  }

  /** The oldest go, those that are done first. */
  #makeRoom(): void {
    const done = [...this.all.values()].filter(({ isDone }) => isDone)
    for (const one of [...done, ...this.all.values()]) {
      if (this.all.size <= mostTasks) return
      this.remove(one)
    }
  }

  #end(task: Task): void {
    task.isDone = true
    task.endedMs = this.#nowMs()
    this.#running--
  }
}

export const taskPath = ({ id }: Pick<Task, 'id'>): string => `${base}/TaskService/Tasks/${id}`

export function taskBody({ bmc }: Pick<Call, 'bmc'>, task: Task): Json {
  const progress = bmc.tasks.progress(task)
  const isBad = task.outcome === 'Critical'
  return {
    '@odata.id': taskPath(task),
    '@odata.type': '#Task.v1_4_3.Task',
    Id: task.id,
    Name: task.name,
    StartTime: bmc.timeAt(task.startedMs),
    ...(task.isDone ? { EndTime: bmc.timeAt(task.endedMs) } : {}),
    PercentComplete: Math.floor(progress * 100),
    TaskState: task.isDone ? (isBad ? 'Exception' : 'Completed') : 'Running',
    TaskStatus: task.isDone ? task.outcome : 'OK',
    TaskMonitor: `${taskPath(task)}/Monitor`,
    HidePayload: true,
    Messages: task.messages
      .filter(({ after }) => after <= progress)
      .map(({ message, messageId, args, severity }) => ({
        '@odata.type': '#Message.v1_1_1.Message',
        Message: message,
        MessageArgs: args,
        MessageId: messageId,
        MessageSeverity: severity,
        Resolution: 'None.',
      })),
  }
}

/** 202 with where to look (DSP0266 §12.2). */
export const accepted = (call: Call, task: Task): Reply => ({
  status: 202,
  body: taskBody(call, task),
  headers: { Location: `${taskPath(task)}/Monitor`, 'Retry-After': '5' },
})

const taskOf = ({ bmc, ids: [id = ''] }: Call): Task | undefined => bmc.tasks.all.get(id)

export const taskRoutes: Routes = {
  TaskService: {
    get: ({ bmc }) => ({
      '@odata.id': `${base}/TaskService`,
      '@odata.type': '#TaskService.v1_1_4.TaskService',
      Id: 'TaskService',
      Name: 'Task Service',
      DateTime: bmc.timeAt(bmc.nowMs),
      CompletedTaskOverWritePolicy: 'Oldest',
      LifeCycleEventOnTaskStateChange: true,
      ServiceEnabled: true,
      Status: { Health: 'OK', State: 'Enabled' },
      Tasks: link('TaskService/Tasks'),
    }),
  },
  'TaskService/Tasks': {
    get: (call) =>
      collection(call, {
        type: 'Task',
        name: 'Task Collection',
        members: [...call.bmc.tasks.all.keys()],
        show: (id) => link(`TaskService/Tasks/${id}`),
      }),
  },
  'TaskService/Tasks/{}': {
    get: (call) => {
      const task = taskOf(call)
      return task && taskBody(call, task)
    },
    delete: (call) => {
      const task = taskOf(call)
      if (task) call.bmc.tasks.remove(task)
      return noContent
    },
    privilege: 'ConfigureManager',
  },
  'TaskService/Tasks/{}/Monitor': {
    watch: (call) => {
      const task = taskOf(call)
      if (!task) return undefined
      return task.isDone ? { status: 200, body: taskBody(call, task) } : accepted(call, task)
    },
  },
}
