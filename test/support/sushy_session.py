# What OpenStack's Ironic does with a BMC, by way of sushy: looks at all there is, sets the next boot, resets, updates.
import json
import sys

import sushy

url, user, password, ca = sys.argv[1:5]
root = sushy.Sushy(url, username=user, password=password, verify=ca)
told = {}

system = root.get_system()
told["serial"] = system.serial_number.strip()
told["power"] = system.power_state.value
told["memory"] = system.memory_summary.size_gib
told["cores"] = system.processors.summary.count
told["drives"] = [drive.capacity_bytes for one in system.storage.get_members() for drive in one.drives]
told["resets"] = sorted(one.value for one in system.get_allowed_reset_system_values())

system.set_system_boot_options(target=sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
system.refresh()
told["boot"] = system.boot.target.value
system.reset_system(sushy.RESET_FORCE_OFF)
system.refresh()
told["after off"] = system.power_state.value
system.reset_system(sushy.RESET_ON)

manager = root.get_manager()
told["bmc"] = manager.firmware_version
told["chassis"] = sorted(one.identity for one in root.get_chassis_collection().get_members())
updates = root.get_update_service()
inventory = updates.firmware_inventory.get_members()
told["firmware"] = {one.identity: one.version for one in inventory}
monitor = updates.simple_update("http://images/part-9.9.9.bin", targets=[inventory[0].path])
task = monitor.get_task()
told["task"] = [task.task_state.value, task.messages[0].message_id]
told["sessions"] = len(root.get_session_service().sessions.get_members())
print(json.dumps(told))
