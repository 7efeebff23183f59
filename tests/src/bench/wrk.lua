-- Sends the bodies of the file BODIES (a line each) in turn.
local requests = {}
local turn = 0

init = function(args)
  local headers = { ["Content-Type"] = "application/json" }
  for body in io.lines(os.getenv("BODIES")) do
    requests[#requests + 1] = wrk.format("POST", "/api/chat", headers, body)
  end
end

request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
