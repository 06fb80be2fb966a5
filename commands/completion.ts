// `dpulse completion`: scripts for bash, zsh and fish, made from the commands themselves so that they cannot be stale.
import type { Command } from 'commander'

interface Node {
  /** Words after `dpulse`. */
  path: string[]
  summary: string
  commands: { name: string; summary: string }[]
  options: { flags: string[]; summary: string; takes: boolean; choices: readonly string[]; file: boolean }[]
  choices: readonly string[]
}

export function completion(program: Command, shell: string): string {
  const nodes = collect(program, [])
  if (shell === 'fish') return fish(nodes)
  const script = bash(nodes)
  return shell === 'zsh' ? `autoload -Uz bashcompinit && bashcompinit\n${script}` : script
}

function collect(command: Command, path: string[]): Node[] {
  const help = command.createHelp()
  const commands = help.visibleCommands(command).filter((one) => one.name() !== 'help')
  const node: Node = {
    path,
    summary: command.summary() || command.description(),
    commands: commands.map((one) => ({ name: one.name(), summary: one.summary() || one.description() })),
    options: help.visibleOptions(command).map((option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined),
      summary: option.description,
      takes: option.required || option.optional,
      choices: option.argChoices ?? [],
      file: /<(file|dir)>/.test(option.flags),
    })),
    choices: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
  }
  return [node, ...commands.flatMap((one) => collect(one, [...path, one.name()]))]
}

function bash(nodes: readonly Node[]): string {
  const cases = nodes.map(({ path, commands, options, choices }) => {
    const words = [...commands.map(({ name }) => name), ...choices, ...options.flatMap(({ flags }) => flags)]
    const values = options
      .filter(({ takes }) => takes)
      .map((one) => `        ${one.flags.join('|')}) ${valuesOf(one)}; return ;;`)
    const check = values.length === 0 ? '' : `      case "$previous" in\n${values.join('\n')}\n      esac\n`
    return `    "${path.join(' ')}")\n${check}      words="${words.join(' ')}" ;;`
  })
  const names = nodes.filter(({ path }) => path.length > 0).map(({ path }) => `"${path.join(' ')}"`)
  return `# dpulse completion; load it with: source <(dpulse completion bash)
_dpulse() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" path="" words="" word index
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    case "\${path:+$path }$word" in
      ${names.join('|')}) path="\${path:+$path }$word" ;;
    esac
  done
  COMPREPLY=()
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _dpulse dpulse
`
}

function valuesOf({ choices, file }: Node['options'][number]): string {
  if (choices.length > 0) return `COMPREPLY=($(compgen -W "${choices.join(' ')}" -- "$current"))`
  return file ? 'COMPREPLY=($(compgen -f -- "$current"))' : ':'
}

function fish(nodes: readonly Node[]): string {
  const lines = [
    '# dpulse completion; load it with: dpulse completion fish | source',
    'complete -c dpulse -f',
  ]
  for (const { path, commands, options, choices } of nodes) {
    const inside = path.map((word) => `__fish_seen_subcommand_from ${word}`)
    const outside =
      commands.length > 0
        ? [`not __fish_seen_subcommand_from ${commands.map(({ name }) => name).join(' ')}`]
        : []
    const here = `-n '${[...inside, ...outside].join('; and ') || 'true'}'`
    for (const { name, summary } of commands)
      lines.push(`complete -c dpulse ${here} -a ${name} -d ${quoted(summary)}`)
    if (choices.length > 0) lines.push(`complete -c dpulse ${here} -a '${choices.join(' ')}'`)
    for (const { flags, summary, takes, choices, file } of options) {
      const names = flags.map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      )
      const values =
        choices.length > 0 ? ` -x -a '${choices.join(' ')}'` : file ? ' -r -F' : takes ? ' -x' : ''
      lines.push(`complete -c dpulse ${here} ${names.join(' ')}${values} -d ${quoted(summary)}`)
    }
  }
  return `${lines.join('\n')}\n`
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
