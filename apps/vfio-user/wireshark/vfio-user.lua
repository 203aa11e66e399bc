-- Wireshark dissector for vfio-user, in captures made by `vfio-user trace --pcapng FILE` (pcapng, LINKTYPE_USER0).
--
--   tshark -X lua_script:vfio-user.lua -r FILE
--   wireshark -X lua_script:vfio-user.lua FILE
--
-- or copy it into the personal Lua plugin folder (Help > About Wireshark > Folders). Nothing else has to be set: the link type
-- is claimed here. Filters: vfio_user.command_name == "REGION_READ", vfio_user.region == 0, vfio_user.errno, vfio_user.time > 0.001,
-- vfio_user.malformed. Works with Lua 5.2 (Wireshark 3.6 and later).

local vfu = Proto("vfio_user", "vfio-user")

---------------------------------------------------------------------------------------------------------------------------
-- Names

local COMMANDS = {
  [1] = "VERSION", [2] = "DMA_MAP", [3] = "DMA_UNMAP", [4] = "DEVICE_GET_INFO", [5] = "DEVICE_GET_REGION_INFO",
  [6] = "DEVICE_GET_REGION_IO_FDS", [7] = "DEVICE_GET_IRQ_INFO", [8] = "DEVICE_SET_IRQS", [9] = "REGION_READ", [10] = "REGION_WRITE",
  [11] = "DMA_READ", [12] = "DMA_WRITE", [13] = "DEVICE_RESET", [14] = "USER_DIRTY_PAGES", [15] = "REGION_WRITE_MULTI",
  [16] = "DEVICE_FEATURE", [17] = "MIG_DATA_READ", [18] = "MIG_DATA_WRITE",
}
local REGIONS = {
  [0] = "BAR0", [1] = "BAR1", [2] = "BAR2", [3] = "BAR3", [4] = "BAR4", [5] = "BAR5", [6] = "ROM", [7] = "CONFIG", [8] = "VGA",
}
local IRQS = { [0] = "INTX", [1] = "MSI", [2] = "MSIX", [3] = "ERR", [4] = "REQ" }
local ERRNOS = {
  [1] = "EPERM", [2] = "ENOENT", [5] = "EIO", [7] = "E2BIG", [9] = "EBADF", [11] = "EAGAIN", [12] = "ENOMEM", [13] = "EACCES",
  [14] = "EFAULT", [16] = "EBUSY", [17] = "EEXIST", [19] = "ENODEV", [22] = "EINVAL", [24] = "EMFILE", [28] = "ENOSPC",
  [38] = "ENOSYS", [71] = "EPROTO", [95] = "EOPNOTSUPP", [107] = "ENOTCONN", [110] = "ETIMEDOUT",
}
local FEATURES = {
  [0] = "PCI_VF_TOKEN", [1] = "MIGRATION", [2] = "MIG_DEVICE_STATE", [3] = "LOW_POWER_ENTRY", [4] = "LOW_POWER_ENTRY_WITH_WAKEUP",
  [5] = "LOW_POWER_EXIT", [6] = "DMA_LOGGING_START", [7] = "DMA_LOGGING_STOP", [8] = "DMA_LOGGING_REPORT", [9] = "MIG_DATA_SIZE",
  [10] = "BUS_MASTER",
}
local STATES = {
  [0] = "ERROR", [1] = "STOP", [2] = "RUNNING", [3] = "STOP_COPY", [4] = "RESUMING", [5] = "RUNNING_P2P", [6] = "PRE_COPY",
  [7] = "PRE_COPY_P2P",
}
local IO_FD_TYPES = { [0] = "IOEVENTFD", [1] = "IOREGIONFD", [2] = "IOEVENTFD_SHADOW" }
local FD_KINDS = { [0] = "other", [1] = "memfd", [2] = "file", [3] = "eventfd", [4] = "socket", [5] = "device", [6] = "pipe" }
local TYPES = { [0] = "command", [1] = "reply" }
local CAPABILITIES = { [1] = "SPARSE_MMAP", [2] = "TYPE", [3] = "MSIX_MAPPABLE" }

local function name_of(names, value) return names[value] or tostring(value) end

-- '0x1000' of a UInt64.
local function hex(value) return "0x" .. value:tohex():gsub("^0+(%x)", "%1") end

---------------------------------------------------------------------------------------------------------------------------
-- Fields

local f = {}
local fields = {}
local function field(key, kind, abbreviation, title, ...)
  f[key] = kind("vfio_user." .. abbreviation, title, ...)
  fields[#fields + 1] = f[key]
end
local P = ProtoField

-- The header in front of each message (README, "the capture").
field("capture_version", P.uint8, "capture.version", "Capture version")
field("from_server", P.bool, "from_server", "From the server", 8, nil, 0x01)
field("twin", P.bool, "twin", "Twin socket", 8, nil, 0x02)
field("raw", P.bool, "raw", "Raw bytes, no message", 8, nil, 0x04)
field("cut", P.bool, "cut", "Cut", 8, nil, 0x08)
field("ended", P.bool, "ended", "Session ended", 8, nil, 0x10)
field("continued", P.bool, "continued", "Goes on with the message of the packet before", 8, nil, 0x20)
field("session", P.uint32, "session", "Session")
field("fd_count", P.uint16, "fds", "Descriptors")
field("fd_kind", P.uint8, "fd.kind", "Kind", base.DEC, FD_KINDS)
field("fd_file", P.uint32, "fd.file", "File")
field("fd_size", P.uint64, "fd.size", "Size")

-- The message header.
field("id", P.uint16, "id", "Message id", base.HEX)
field("command", P.uint16, "command", "Command", base.DEC, COMMANDS)
field("command_name", P.string, "command_name", "Command name")
field("size", P.uint32, "size", "Message size")
field("flags", P.uint32, "flags", "Flags", base.HEX)
field("type", P.uint32, "type", "Type", base.DEC, TYPES, 0x0f)
field("no_reply", P.bool, "no_reply", "No reply", 32, nil, 0x10)
field("error", P.bool, "error", "Error", 32, nil, 0x20)
field("errno", P.uint32, "errno", "Errno", base.DEC, ERRNOS)

-- Request and reply.
field("response_in", P.framenum, "response_in", "Response in", base.NONE, frametype.RESPONSE)
field("response_to", P.framenum, "response_to", "Response to", base.NONE, frametype.REQUEST)
field("time", P.relative_time, "time", "Response time")

-- Fields of more than one command.
field("argsz", P.uint32, "argsz", "argsz")
field("region", P.uint32, "region", "Region", base.DEC, REGIONS)
field("irq", P.uint32, "irq", "Interrupt index", base.DEC, IRQS)
field("offset", P.uint64, "offset", "Offset", base.HEX)
field("count", P.uint64, "count", "Count")
field("address", P.uint64, "address", "Address", base.HEX)
field("length", P.uint64, "length", "Length", base.HEX)
field("data", P.bytes, "data", "Data")
field("page_size", P.uint64, "page_size", "Page size")
field("bitmap_size", P.uint64, "bitmap_size", "Bitmap size")
field("bitmap", P.bytes, "bitmap", "Dirty bitmap")
field("rest", P.bytes, "rest", "Bytes behind the structure")

-- VERSION
field("major", P.uint16, "version.major", "Major")
field("minor", P.uint16, "version.minor", "Minor")
field("json", P.string, "version.json", "Capabilities")

-- DMA_MAP, DMA_UNMAP
field("map_flags", P.uint32, "dma_map.flags", "Flags", base.HEX)
field("map_read", P.bool, "dma_map.flags.read", "Readable", 32, nil, 1)
field("map_write", P.bool, "dma_map.flags.write", "Writable", 32, nil, 2)
field("map_mmap", P.bool, "dma_map.flags.mmap", "MMAP", 32, nil, 4)
field("map_file_io", P.bool, "dma_map.flags.file_io", "FILE_IO", 32, nil, 8)
field("unmap_flags", P.uint32, "dma_unmap.flags", "Flags", base.HEX)
field("unmap_bitmap", P.bool, "dma_unmap.flags.get_dirty_bitmap", "GET_DIRTY_BITMAP", 32, nil, 1)
field("unmap_all", P.bool, "dma_unmap.flags.all", "ALL", 32, nil, 2)

-- DEVICE_GET_INFO
field("info_flags", P.uint32, "info.flags", "Flags", base.HEX)
field("info_reset", P.bool, "info.flags.reset", "RESET", 32, nil, 1)
field("info_pci", P.bool, "info.flags.pci", "PCI", 32, nil, 2)
field("num_regions", P.uint32, "info.num_regions", "Regions")
field("num_irqs", P.uint32, "info.num_irqs", "Interrupt indexes")

-- DEVICE_GET_REGION_INFO
field("region_flags", P.uint32, "region_info.flags", "Flags", base.HEX)
field("region_read", P.bool, "region_info.flags.read", "READ", 32, nil, 1)
field("region_write", P.bool, "region_info.flags.write", "WRITE", 32, nil, 2)
field("region_mmap", P.bool, "region_info.flags.mmap", "MMAP", 32, nil, 4)
field("region_caps", P.bool, "region_info.flags.caps", "CAPS", 32, nil, 8)
field("cap_offset", P.uint32, "region_info.cap_offset", "Capability offset")
field("region_size", P.uint64, "region_info.size", "Size", base.HEX)
field("cap_id", P.uint16, "region_info.cap.id", "Capability", base.DEC, CAPABILITIES)
field("cap_version", P.uint16, "region_info.cap.version", "Version")
field("cap_next", P.uint32, "region_info.cap.next", "Next")
field("areas", P.uint32, "region_info.areas", "Areas")
field("area_offset", P.uint64, "region_info.area.offset", "Area offset", base.HEX)
field("region_type", P.uint32, "region_info.type", "Type", base.HEX)
field("region_subtype", P.uint32, "region_info.subtype", "Subtype", base.HEX)
field("area_size", P.uint64, "region_info.area.size", "Area size", base.HEX)

-- DEVICE_GET_REGION_IO_FDS
field("io_flags", P.uint32, "io_fds.flags", "Flags", base.HEX)
field("io_count", P.uint32, "io_fds.count", "Sub-regions")
field("io_offset", P.uint64, "io_fd.offset", "Offset", base.HEX)
field("io_size", P.uint64, "io_fd.size", "Size")
field("io_fd_index", P.int32, "io_fd.fd_index", "Descriptor")
field("io_type", P.uint32, "io_fd.type", "Type", base.DEC, IO_FD_TYPES)
field("io_fd_flags", P.uint32, "io_fd.flags", "Flags", base.HEX)
field("io_memory", P.int32, "io_fd.memory_fd_index", "Memory descriptor")
field("io_memory_offset", P.uint64, "io_fd.memory_offset", "Memory offset", base.HEX)
field("io_user_data", P.uint64, "io_fd.user_data", "User data", base.HEX)
field("io_datamatch", P.uint64, "io_fd.datamatch", "Datamatch", base.HEX)

-- DEVICE_GET_IRQ_INFO
field("irq_flags", P.uint32, "irq_info.flags", "Flags", base.HEX)
field("irq_eventfd", P.bool, "irq_info.flags.eventfd", "EVENTFD", 32, nil, 1)
field("irq_maskable", P.bool, "irq_info.flags.maskable", "MASKABLE", 32, nil, 2)
field("irq_automasked", P.bool, "irq_info.flags.automasked", "AUTOMASKED", 32, nil, 4)
field("irq_noresize", P.bool, "irq_info.flags.noresize", "NORESIZE", 32, nil, 8)
field("irq_count", P.uint32, "irq_info.count", "Vectors")

-- DEVICE_SET_IRQS
field("set_flags", P.uint32, "set_irqs.flags", "Flags", base.HEX)
field("set_none", P.bool, "set_irqs.flags.none", "NONE", 32, nil, 1)
field("set_bool", P.bool, "set_irqs.flags.bool", "BOOL", 32, nil, 2)
field("set_eventfd", P.bool, "set_irqs.flags.eventfd", "EVENTFD", 32, nil, 4)
field("set_mask", P.bool, "set_irqs.flags.mask", "MASK", 32, nil, 8)
field("set_unmask", P.bool, "set_irqs.flags.unmask", "UNMASK", 32, nil, 16)
field("set_trigger", P.bool, "set_irqs.flags.trigger", "TRIGGER", 32, nil, 32)
field("start", P.uint32, "set_irqs.start", "First vector")
field("vectors", P.uint32, "set_irqs.count", "Vectors")
field("bools", P.bytes, "set_irqs.bools", "Bools")

-- REGION_WRITE_MULTI
field("wr_cnt", P.uint64, "write_multi.count", "Writes")

-- DEVICE_FEATURE
field("feature_flags", P.uint32, "feature.flags", "Flags", base.HEX)
field("feature", P.uint32, "feature.number", "Feature", base.DEC, FEATURES, 0xffff)
field("feature_get", P.bool, "feature.get", "GET", 32, nil, 0x10000)
field("feature_set", P.bool, "feature.set", "SET", 32, nil, 0x20000)
field("feature_probe", P.bool, "feature.probe", "PROBE", 32, nil, 0x40000)
field("migration_flags", P.uint64, "feature.migration", "Migration", base.HEX)
field("state", P.uint32, "feature.state", "Device state", base.DEC, STATES)
field("data_fd", P.int32, "feature.data_fd", "Data descriptor")
field("num_ranges", P.uint32, "feature.num_ranges", "Ranges")
field("iova", P.uint64, "feature.iova", "IOVA", base.HEX)

-- MIG_DATA_READ, MIG_DATA_WRITE
field("mig_size", P.uint32, "mig_data.size", "Size")

vfu.fields = fields

local e_error = ProtoExpert.new("vfio_user.expert.error", "The command failed", expert.group.RESPONSE_CODE, expert.severity.WARN)
local e_malformed = ProtoExpert.new("vfio_user.malformed", "Malformed vfio-user message", expert.group.MALFORMED, expert.severity.ERROR)
local e_unanswered = ProtoExpert.new("vfio_user.expert.unexpected_reply", "A reply to no command", expert.group.SEQUENCE, expert.severity.WARN)
local e_cut = ProtoExpert.new("vfio_user.expert.cut", "The message was not captured whole", expert.group.SEQUENCE, expert.severity.NOTE)
vfu.experts = { e_error, e_malformed, e_unanswered, e_cut }

---------------------------------------------------------------------------------------------------------------------------
-- A cursor that never reads beyond the payload: what is missing ends the message with an expert item (unless the packet has only the
-- beginning of it), never with a Lua error.

local MISSING = {}

local Walk = {}
Walk.__index = Walk

local function walk(buffer, tree) return setmetatable({ buffer = buffer, tree = tree, at = 0, length = buffer:len(), whole = true }, Walk) end

function Walk:left() return self.length - self.at end

function Walk:take(bytes, what)
  if self:left() < bytes then
    if self.whole then self.tree:add_proto_expert_info(e_malformed, string.format("the payload of %d bytes ends before %s", self.length, what)) end
    error(MISSING, 0)
  end
  local range = self.buffer(self.at, bytes)
  self.at = self.at + bytes
  return range
end

function Walk:u16(key) local r = self:take(2, key); self.tree:add_le(f[key], r); return r:le_uint() end
function Walk:u32(key) local r = self:take(4, key); self.tree:add_le(f[key], r); return r:le_uint() end
function Walk:u64(key) local r = self:take(8, key); self.tree:add_le(f[key], r); return r:le_uint64() end
-- A 32-bit value shown by a 64-bit field.
function Walk:count32(key) local r = self:take(4, key); self.tree:add(f[key], r, UInt64(r:le_uint())); return r:le_uint() end
function Walk:skip(bytes, what) self:take(bytes, what) end

function Walk:bits(key, keys)
  local r = self:take(4, key)
  local item = self.tree:add_le(f[key], r)
  for _, bit_key in ipairs(keys) do item:add_le(f[bit_key], r) end
  return r:le_uint()
end

-- `count` bytes; where fewer are left, those, and the message ends as malformed. Counts may be UInt64.
function Walk:bytes(key, count)
  local wanted = type(count) == "number" and count or (count > UInt64(0xffffffff) and 0xffffffff or count:tonumber())
  local present = math.min(wanted, self:left())
  if present > 0 then self.tree:add(f[key], self.buffer(self.at, present)) end
  self.at = self.at + present
  if present < wanted then
    if self.whole then self.tree:add_proto_expert_info(e_malformed, string.format("%d bytes of %s, %s are announced", present, key, tostring(count))) end
    error(MISSING, 0)
  end
  return present
end

local function has(flags, mask) return bit32.band(flags, mask) ~= 0 end

-- A value of 1, 2, 4 or 8 bytes as one number, other data as bytes, cut for the column.
local function data_text(range)
  local n = range:len()
  if n == 1 or n == 2 or n == 4 then return string.format("0x%0" .. 2 * n .. "x", range:le_uint()) end
  if n == 8 then return "0x" .. range:le_uint64():tohex() end
  if n > 16 then return tostring(range(0, 16):bytes()) .. "..." end
  return tostring(range:bytes())
end

---------------------------------------------------------------------------------------------------------------------------
-- Payloads, by command. Each gets the walk and whether it is a reply, and returns what the Info column says about it.

local payload = {}

payload[1] = function(w)
  local major, minor = w:u16("major"), w:u16("minor")
  if w:left() > 0 then
    local nul = 0
    local bytes = w.buffer(w.at):bytes()
    while nul < bytes:len() and bytes:get_index(nul) ~= 0 do nul = nul + 1 end
    local text = w.buffer(w.at, nul)
    if nul > 0 then w.tree:add(f.json, text) end
    w.at = w.at + math.min(nul + 1, bytes:len())
    if nul == bytes:len() then w.tree:add_proto_expert_info(e_malformed, "JSON without a terminating NUL") end
  end
  return string.format("%d.%d", major, minor)
end

payload[2] = function(w, reply)
  if reply then return end
  w:u32("argsz")
  w:bits("map_flags", { "map_read", "map_write", "map_mmap", "map_file_io" })
  w:u64("offset")
  local address, size = w:u64("address"), w:u64("length")
  return hex(address) .. " + " .. hex(size)
end

payload[3] = function(w, reply)
  w:u32("argsz")
  local flags = w:bits("unmap_flags", { "unmap_bitmap", "unmap_all" })
  local address, size = w:u64("address"), w:u64("length")
  if has(flags, 1) then
    w:u64("page_size")
    local bytes = w:u64("bitmap_size")
    if reply then w:bytes("bitmap", bytes) end
  end
  return has(flags, 2) and "all" or hex(address) .. " + " .. hex(size)
end

payload[4] = function(w, reply)
  w:u32("argsz")
  w:bits("info_flags", { "info_reset", "info_pci" })
  local regions, irqs = w:u32("num_regions"), w:u32("num_irqs")
  if reply then return string.format("%d regions, %d interrupt indexes", regions, irqs) end
end

local function capabilities(w, first)
  -- A chain of at most 16 elements, whose offsets count from the start of the payload.
  local at = first
  for _ = 1, 16 do
    if at == 0 then return end
    if at < 32 or at + 8 > w.length then
      w.tree:add_proto_expert_info(e_malformed, string.format("a capability at %d of %d bytes", at, w.length))
      error(MISSING, 0)
    end
    local element = walk(w.buffer, w.tree)
    element.whole = w.whole
    element.at = at
    local id = element:u16("cap_id")
    element:u16("cap_version")
    local following = element:u32("cap_next")
    if id == 1 then
      local areas = element:u32("areas")
      element:skip(4, "reserved")
      for _ = 1, areas do
        element:u64("area_offset")
        element:u64("area_size")
      end
    elseif id == 2 then
      element:u32("region_type")
      element:u32("region_subtype")
    end
    w.at = math.max(w.at, element.at)
    at = following
  end
end

payload[5] = function(w, reply)
  w:u32("argsz")
  local flags = w:bits("region_flags", { "region_read", "region_write", "region_mmap", "region_caps" })
  local index = w:u32("region")
  local first = w:u32("cap_offset")
  local size = w:u64("region_size")
  w:u64("offset")
  if reply and has(flags, 8) then capabilities(w, first) end
  return name_of(REGIONS, index) .. (reply and " " .. hex(size) or "")
end

payload[6] = function(w, reply)
  w:u32("argsz")
  w:u32("io_flags")
  local index, count = w:u32("region"), w:u32("io_count")
  if reply and w:left() > 0 and count > 0 then
    -- 48 bytes in libvfio-user, 40 in the specification, which has no shadow.
    local stride = w:left() == 40 * count and 40 or 48
    for _ = 1, count do
      local last = w.at + stride
      w:u64("io_offset")
      w:u64("io_size")
      w:u32("io_fd_index")
      local kind = w:u32("io_type")
      w:u32("io_fd_flags")
      if kind == 2 then
        w:u32("io_memory")
        w:u64("io_memory_offset")
        w:u64("io_datamatch")
      elseif kind == 1 then
        w:skip(4, "padding")
        w:u64("io_user_data")
      else
        w:skip(stride == 48 and 12 or 4, "padding")
        w:u64("io_datamatch")
      end
      if w.at < last then w:skip(last - w.at, "padding") end
    end
  end
  return name_of(REGIONS, index) .. (reply and string.format(": %d", count) or "")
end

payload[7] = function(w, reply)
  w:u32("argsz")
  w:bits("irq_flags", { "irq_eventfd", "irq_maskable", "irq_automasked", "irq_noresize" })
  local index, count = w:u32("irq"), w:u32("irq_count")
  return name_of(IRQS, index) .. (reply and string.format(": %d vectors", count) or "")
end

payload[8] = function(w, reply)
  if reply then return end
  w:u32("argsz")
  local flags = w:bits("set_flags", { "set_none", "set_bool", "set_eventfd", "set_mask", "set_unmask", "set_trigger" })
  local index, start, count = w:u32("irq"), w:u32("start"), w:u32("vectors")
  if has(flags, 2) then w:bytes("bools", count) end
  local action = has(flags, 8) and "mask" or has(flags, 16) and "unmask" or has(flags, 32) and "trigger" or "?"
  return string.format("%s %s %d+%d", action, name_of(IRQS, index), start, count)
end

local function region_access(w, with_data)
  local offset, region, count = w:u64("offset"), w:u32("region"), w:count32("count")
  local text = string.format("%s +%s, %d", name_of(REGIONS, region), hex(offset), count)
  if with_data then
    local at = w.at
    if w:bytes("data", count) > 0 then text = text .. " = " .. data_text(w.buffer(at, count)) end
  end
  return text
end

payload[9] = function(w, reply)
  -- libvfio-user answers a read of no bytes by a header alone.
  if reply and w:left() == 0 then return end
  return region_access(w, reply)
end

payload[10] = function(w, reply)
  if reply and w:left() == 0 then return end
  return region_access(w, not reply)
end

local function dma(w, with_data)
  local address = w:u64("address")
  -- libvfio-user has a 64-bit count with the data behind it, QEMU a 32-bit one; which, the length of the message tells.
  local left = w:left()
  local wide = left >= 8 and w.buffer(w.at, 8):le_uint64() or UInt64(0)
  local narrow = left >= 4 and w.buffer(w.at, 4):le_uint() or 0
  local count
  if with_data and wide ~= UInt64(left - 8) and (left == 8 + narrow or left == math.max(8, 4 + narrow)) then
    count = UInt64(w:count32("count"))
  elseif left == 4 then
    count = UInt64(w:count32("count"))
  else
    count = w:u64("count")
  end
  if with_data then w:bytes("data", count) end
  return hex(address) .. ", " .. tostring(count)
end

payload[11] = function(w, reply) return dma(w, reply) end
payload[12] = function(w, reply)
  -- QEMU answers by a header alone.
  if reply and w:left() == 0 then return end
  return dma(w, not reply)
end

payload[13] = function() end

payload[15] = function(w, reply)
  local count = w:u64("wr_cnt")
  if not reply then
    local n = count > UInt64(65536) and 65536 or count:tonumber()
    for _ = 1, n do
      w:u64("offset")
      w:u32("region")
      local bytes = w:count32("count")
      local data = w:take(8, "data")
      if bytes > 0 then w.tree:add(f.data, data(0, math.min(bytes, 8))) end
      if bytes > 8 then w.tree:add_proto_expert_info(e_malformed, string.format("a write of %d bytes, 8 is the limit", bytes)) end
    end
  end
  return tostring(count) .. " writes"
end

local feature_data = {}
feature_data[1] = function(w) w:u64("migration_flags") end
feature_data[2] = function(w)
  local state = w:u32("state")
  w:u32("data_fd")
  return name_of(STATES, state)
end
feature_data[6] = function(w)
  w:u64("page_size")
  local ranges = w:u32("num_ranges")
  w:skip(4, "reserved")
  for _ = 1, ranges do
    w:u64("iova")
    w:u64("length")
  end
end
feature_data[7] = feature_data[6]
feature_data[8] = function(w)
  w:u64("iova")
  w:u64("length")
  w:u64("page_size")
  if w:left() > 0 then w:bytes("bitmap", w:left()) end
end

payload[16] = function(w)
  w:u32("argsz")
  local flags = w:bits("feature_flags", { "feature", "feature_get", "feature_set", "feature_probe" })
  local number = bit32.band(flags, 0xffff)
  local text = (has(flags, 0x40000) and "probe " or "") .. (has(flags, 0x10000) and "get " or "") .. (has(flags, 0x20000) and "set " or "")
    .. name_of(FEATURES, number)
  if w:left() > 0 and not has(flags, 0x40000) then
    local known = feature_data[number]
    local more
    if known then more = known(w) else w:bytes("data", w:left()) end
    if more then text = text .. " " .. more end
  end
  return text
end

payload[17] = function(w, reply)
  w:u32("argsz")
  local size = w:u32("mig_size")
  if reply then w:bytes("data", size) end
  return string.format("%d bytes", size)
end

payload[18] = function(w, reply)
  if reply then return end
  w:u32("argsz")
  local size = w:u32("mig_size")
  w:bytes("data", size)
  return string.format("%d bytes", size)
end

---------------------------------------------------------------------------------------------------------------------------
-- Requests and replies: matched in the first pass, per session, socket, direction and id, in order (ids need not be unique).

local open_requests = {}
local pairs_of = {}

function vfu.init()
  open_requests = {}
  pairs_of = {}
end

local function match(pinfo, frame_key, key, is_reply, posted)
  if pinfo.visited then return end
  if not is_reply then
    if posted then return end
    local queue = open_requests[key] or { first = 1, last = 0 }
    queue.last = queue.last + 1
    queue[queue.last] = { number = pinfo.number, time = pinfo.rel_ts, frame_key = frame_key }
    open_requests[key] = queue
    return
  end
  local queue = open_requests[key]
  local request = queue and queue[queue.first]
  if not request then return end
  queue[queue.first] = nil
  queue.first = queue.first + 1
  pairs_of[frame_key] = { request = request.number, time = pinfo.rel_ts - request.time }
  pairs_of[request.frame_key] = { response = pinfo.number }
end

local function add_match(tree, frame_key, is_reply, posted)
  local pair = pairs_of[frame_key]
  if pair and pair.request then
    tree:add(f.response_to, pair.request):set_generated()
    local seconds = math.floor(pair.time)
    tree:add(f.time, NSTime.new(seconds, math.floor((pair.time - seconds) * 1e9 + 0.5))):set_generated()
  elseif pair and pair.response then
    tree:add(f.response_in, pair.response):set_generated()
  elseif is_reply and not posted then
    tree:add_proto_expert_info(e_unanswered)
  end
end

---------------------------------------------------------------------------------------------------------------------------
-- One message. Returns its length.

local function message(buffer, pinfo, root, context, n)
  local size = buffer(4, 4):le_uint()
  local command, flags = buffer(2, 2):le_uint(), buffer(8, 4):le_uint()
  local kind = bit32.band(flags, 0x0f)
  local is_reply, failed, posted = kind == 1, kind == 1 and has(flags, 0x20), has(flags, 0x10)
  local present = math.min(size, buffer:len())
  local tree = root:add(vfu, buffer(0, present), "vfio-user, " .. name_of(COMMANDS, command) .. (is_reply and " reply" or ""))
  tree:add_le(f.id, buffer(0, 2))
  local command_item = tree:add_le(f.command, buffer(2, 2))
  tree:add(f.command_name, buffer(2, 2), name_of(COMMANDS, command)):set_generated()
  tree:add_le(f.size, buffer(4, 4))
  local flags_item = tree:add_le(f.flags, buffer(8, 4))
  flags_item:add_le(f.type, buffer(8, 4))
  flags_item:add_le(f.no_reply, buffer(8, 4))
  flags_item:add_le(f.error, buffer(8, 4))
  local info = name_of(COMMANDS, command)
  if failed then
    tree:add_le(f.errno, buffer(12, 4)):add_proto_expert_info(e_error, name_of(ERRNOS, buffer(12, 4):le_uint()))
    info = info .. " failed: " .. name_of(ERRNOS, buffer(12, 4):le_uint())
  elseif is_reply then
    info = info .. " reply"
  elseif posted then
    info = info .. " (posted)"
  end

  local frame_key = pinfo.number .. "/" .. n
  -- The reply comes from the other side.
  local sender = context.from_server ~= is_reply and "server" or "client"
  match(pinfo, frame_key, table.concat({ context.session, tostring(context.twin), sender, buffer(0, 2):le_uint(), command }, "/"), is_reply, posted)
  add_match(tree, frame_key, is_reply, posted)

  if kind > 1 then
    tree:add_proto_expert_info(e_malformed, string.format("type %d is reserved", kind))
  elseif not COMMANDS[command] then
    command_item:add_proto_expert_info(e_malformed, string.format("command %d is unknown", command))
  end
  if present > 16 then
    local w = walk(buffer(16, present - 16), tree)
    w.whole = present == size
    local dissect = kind <= 1 and not failed and payload[command]
    if dissect then
      local fine, result = pcall(dissect, w, is_reply)
      if fine then
        if result then info = info .. " " .. result end
      elseif result ~= MISSING then
        error(result, 0)
      end
    end
    if w:left() > 0 then tree:add(f.rest, w.buffer(w.at)) end
  elseif kind == 0 and command ~= 13 and COMMANDS[command] then
    tree:add_proto_expert_info(e_malformed, "a command without its payload")
  end
  if present < size then tree:add_proto_expert_info(e_cut, string.format("%d of %d bytes", present, size)) end
  return present, info
end

function vfu.dissector(buffer, pinfo, root)
  -- What is no capture of ours (USER0 is everybody's) stays data.
  if buffer:len() < 16 or buffer(0, 2):le_uint() ~= 0x5556 or buffer(2, 1):uint() ~= 1 then return 0 end
  local flags = buffer(3, 1):uint()
  local head = buffer(8, 2):le_uint()
  local context = { session = buffer(4, 4):le_uint(), from_server = has(flags, 1), twin = has(flags, 2) }
  pinfo.cols.protocol = "vfio-user"
  pinfo.cols.src = context.from_server and "server" or "client"
  pinfo.cols.dst = context.from_server and "client" or "server"
  local fds = buffer(10, 2):le_uint()
  local tree = root:add(vfu, buffer(0, math.min(math.max(head, 16), buffer:len())), string.format("vfio-user trace, session %d, from the %s%s", context.session,
    context.from_server and "server" or "client", context.twin and ", twin socket" or ""))
  tree:add(f.capture_version, buffer(2, 1))
  for _, key in ipairs({ "from_server", "twin", "raw", "cut", "ended", "continued" }) do tree:add(f[key], buffer(3, 1)) end
  tree:add_le(f.session, buffer(4, 4))
  tree:add_le(f.fd_count, buffer(10, 2))
  if head ~= 16 + 16 * fds or head > buffer:len() then
    tree:add_proto_expert_info(e_malformed, string.format("a trace header of %d bytes for %d descriptors", head, fds))
    return buffer:len()
  end
  for i = 0, fds - 1 do
    local r = buffer(16 + 16 * i, 16)
    local item = tree:add(r, string.format("Descriptor %d: %s", i, name_of(FD_KINDS, r(0, 1):uint())))
    item:add(f.fd_kind, r(0, 1))
    item:add_le(f.fd_file, r(4, 4))
    item:add_le(f.fd_size, r(8, 8))
  end
  if has(flags, 16) then
    pinfo.cols.info = string.format("session %d ended", context.session)
    return buffer:len()
  end
  if has(flags, 32) then
    if head < buffer:len() then tree:add(f.data, buffer(head)) end
    pinfo.cols.info = string.format("%d more bytes of the message before", buffer:len() - head)
    return buffer:len()
  end
  local at, infos, n = head, {}, 0
  -- One message, or several where somebody has joined packets.
  while at < buffer:len() do
    local rest = buffer(at):tvb()
    if has(flags, 4) or rest:len() < 16 or rest(4, 4):le_uint() < 16 then
      tree:add(f.data, buffer(at))
      if not has(flags, 12) then tree:add_proto_expert_info(e_malformed, "bytes that are no message") end
      infos[#infos + 1] = string.format("%d raw bytes", rest:len())
      break
    end
    n = n + 1
    local length, info = message(rest, pinfo, root, context, n)
    infos[#infos + 1] = info
    at = at + length
  end
  if fds > 0 then infos[#infos + 1] = string.format("[%d fds]", fds) end
  pinfo.cols.info = table.concat(infos, ", ")
  return buffer:len()
end

local encapsulations = wtap_encaps or wtap
DissectorTable.get("wtap_encap"):add(encapsulations.USER0, vfu)
