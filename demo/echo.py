"""A WebSocket handler of one's own: the four callbacks, on a bare socket."""

from aiohttp import web

import pagews

routes = web.RouteTableDef()


class Echo(pagews.WebSocketHandler):
    async def websocket_init(self, context: pagews.Context) -> None:
        context.state["heard"] = 0

    async def websocket_handle(self, frame: pagews.Text | pagews.Binary, context: pagews.Context) -> pagews.Text | None:
        if not isinstance(frame, pagews.Text):
            return None
        context.state["heard"] += 1
        context.socket.send_info(context.state["heard"])
        return pagews.Text("You said: " + frame.data)

    def websocket_info(self, message: object, context: pagews.Context) -> pagews.Text:
        return pagews.Text(f"Messages of yours on this socket: {message}.")


routes.get("/socket/custom")(pagews.websocket(Echo))
