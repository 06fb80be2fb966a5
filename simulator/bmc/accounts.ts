// SessionService and AccountService: what clients log in with.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { demand, mostAccounts, passwordLength, roleNames, roles } from './access.ts'
import type { Account, Role, Session } from './access.ts'
import { Refusal } from './messages.ts'
import { collection } from './query.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'
import { required, take } from './taking.ts'

export const accountRoutes: Routes = {
  SessionService: { get: sessionService, patch: changeSessionService, privilege: 'ConfigureManager' },
  'SessionService/Sessions': {
    get: (call) =>
      collection(call, {
        type: 'Session',
        name: 'Session Collection',
        members: [...call.bmc.access.sessions.values()],
        show: ({ id }) => link(`SessionService/Sessions/${id}`),
      }),
    post: logIn,
    isOpenToPost: true,
  },
  'SessionService/Sessions/{}': {
    get: ({ bmc, ids: [id = ''] }) => {
      const session = bmc.access.sessions.get(id)
      return session && sessionBody(session, bmc.timeAt(session.createdMs))
    },
    delete: logOut,
    privilege: 'ConfigureSelf',
  },
  AccountService: { get: () => accountService },
  'AccountService/Accounts': {
    get: (call) =>
      collection(call, {
        type: 'ManagerAccount',
        name: 'Accounts Collection',
        members: [...call.bmc.access.accounts.keys()],
        show: (name) => link(`AccountService/Accounts/${encodeURIComponent(name)}`),
      }),
    post: addAccount,
    privilege: 'ConfigureUsers',
  },
  'AccountService/Accounts/{}': {
    get: (call) => {
      const account = accountOf(call)
      return account && accountBody(account)
    },
    patch: changeAccount,
    delete: removeAccount,
    privilege: 'ConfigureSelf',
  },
  'AccountService/Roles': {
    get: (call) =>
      collection(call, {
        type: 'Role',
        name: 'Roles Collection',
        members: roleNames,
        show: (name) => link(`AccountService/Roles/${name}`),
      }),
  },
  'AccountService/Roles/{}': { get: ({ ids: [id = ''] }) => roleBody(id) },
}

function sessionService({ bmc }: Call): Json {
  return {
    '@odata.id': `${base}/SessionService`,
    '@odata.type': '#SessionService.v1_1_8.SessionService',
    Id: 'SessionService',
    Name: 'Session Service',
    ServiceEnabled: true,
    SessionTimeout: bmc.access.timeoutSeconds,
    Sessions: link('SessionService/Sessions'),
    Status: { Health: 'OK', State: 'Enabled' },
  }
}

function changeSessionService({ bmc, body }: Call): Reply {
  const { SessionTimeout: seconds } = take(body, { SessionTimeout: 'number' })
  if (seconds !== undefined) {
    if (!Number.isInteger(seconds) || seconds < 30 || seconds > 86_400) {
      throw new Refusal('PropertyValueFormatError', [String(seconds), 'SessionTimeout'])
    }
    bmc.access.timeoutSeconds = seconds
  }
  return noContent
}

function logIn({ bmc, body, request }: Call): Reply {
  const given = take(body, { UserName: 'string', Password: 'string', Context: 'string', Token: 'string' })
  const name = required(given.UserName, 'UserName')
  const password = required(given.Password, 'Password')
  const session = bmc.access.begin(name, password, request.socket.remoteAddress ?? '')
  const path = `${base}/SessionService/Sessions/${session.id}`
  bmc.journal(`bmcweb: session ${session.id} of ${name} began`)
  return {
    status: 201,
    body: sessionBody(session, bmc.timeAt(session.createdMs)),
    headers: { Location: path, 'X-Auth-Token': session.token },
  }
}

function logOut({ bmc, ids: [id = ''], user }: Call): Reply {
  const session = bmc.access.sessions.get(id)
  if (session) {
    if (user && session.user !== user.name) demand(user, 'ConfigureManager')
    bmc.access.end(session)
  }
  return noContent
}

const sessionBody = ({ id, user, address }: Session, created: string): Json => ({
  '@odata.id': `${base}/SessionService/Sessions/${id}`,
  '@odata.type': '#Session.v1_5_0.Session',
  Id: id,
  Name: 'User Session',
  Description: 'Manager User Session',
  UserName: user,
  ClientOriginIPAddress: address,
  CreatedTime: created,
})

const accountService: Json = {
  '@odata.id': `${base}/AccountService`,
  '@odata.type': '#AccountService.v1_10_0.AccountService',
  Id: 'AccountService',
  Name: 'Account Service',
  Description: 'Account Service',
  ServiceEnabled: true,
  MinPasswordLength: passwordLength.least,
  MaxPasswordLength: passwordLength.most,
  Accounts: link('AccountService/Accounts'),
  Roles: link('AccountService/Roles'),
  Status: { Health: 'OK', State: 'Enabled' },
}

const accountOf = ({ bmc, ids: [id = ''] }: Call): Account | undefined => bmc.access.accounts.get(id)

const accountBody = ({ name, role, isEnabled }: Account): Json => ({
  '@odata.id': `${base}/AccountService/Accounts/${encodeURIComponent(name)}`,
  '@odata.type': '#ManagerAccount.v1_8_0.ManagerAccount',
  Id: name,
  Name: 'User Account',
  Description: 'User Account',
  AccountTypes: ['Redfish'],
  Enabled: isEnabled,
  Locked: false,
  UserName: name,
  Password: null,
  PasswordChangeRequired: false,
  RoleId: role,
  Links: { Role: link(`AccountService/Roles/${role}`) },
})

function addAccount({ bmc, body }: Call): Reply {
  const { accounts } = bmc.access
  const given = take(body, {
    UserName: 'string',
    Password: 'string',
    RoleId: roleNames,
    Enabled: 'boolean',
    AccountTypes: 'strings',
  })
  const name = required(given.UserName, 'UserName')
  const password = passwordFrom(required(given.Password, 'Password'))
  const role = required(given.RoleId, 'RoleId')
  if (!/^[A-Za-z_][\w.-]{0,31}$/.test(name)) throw new Refusal('PropertyValueFormatError', [name, 'UserName'])
  if (accounts.has(name)) throw new Refusal('ResourceAlreadyExists', ['ManagerAccount', 'UserName', name])
  if (accounts.size >= mostAccounts) throw new Refusal('CreateLimitReachedForResource')
  bmc.access.addAccount(name, password, role as Role, given.Enabled) // take() lets only roles through
  const account = accounts.get(name)
  return {
    status: 201,
    ...(account ? { body: accountBody(account) } : {}),
    headers: { Location: `${base}/AccountService/Accounts/${encodeURIComponent(name)}` },
  }
}

function changeAccount(call: Call): Reply {
  const { bmc, body, user } = call
  const account = accountOf(call)
  const given = take(body, { Password: 'string', RoleId: roleNames, Enabled: 'boolean', Locked: 'boolean' })
  const isOther = given.RoleId !== undefined || given.Enabled !== undefined || given.Locked !== undefined
  if (user && (account?.name !== user.name || isOther)) demand(user, 'ConfigureUsers')
  if (!account) return noContent
  if (given.Password !== undefined) bmc.access.setPassword(account, passwordFrom(given.Password))
  if (given.RoleId !== undefined) account.role = given.RoleId as Role // take() lets only roles through
  if (given.Enabled !== undefined) account.isEnabled = given.Enabled
  return { status: 200, body: accountBody(account) }
}

function removeAccount(call: Call): Reply {
  const { bmc, user } = call
  if (user) demand(user, 'ConfigureUsers')
  const name = accountOf(call)?.name ?? ''
  // Without an administrator nobody could come in again.
  const others = [...bmc.access.accounts.values()].filter((one) => one.name !== name)
  if (!others.some(({ role, isEnabled }) => role === 'Administrator' && isEnabled)) {
    throw new Refusal('GeneralError', ['the last administrator stays'])
  }
  bmc.access.removeAccount(name)
  return noContent
}

function passwordFrom(given: string): string {
  const { least, most } = passwordLength
  if (given.length < least || given.length > most)
    throw new Refusal('PropertyValueFormatError', ['******', 'Password'])
  return given
}

function roleBody(id: string): Json | undefined {
  const role = roleNames.find((one) => one === id)
  return (
    role && {
      '@odata.id': `${base}/AccountService/Roles/${role}`,
      '@odata.type': '#Role.v1_3_1.Role',
      Id: role,
      Name: 'User Role',
      Description: `${role} User Role`,
      RoleId: role,
      IsPredefined: true,
      AssignedPrivileges: roles[role],
      OemPrivileges: [],
    }
  )
}
