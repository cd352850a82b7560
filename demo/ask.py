"""The server asks its page something, and goes on with the answer."""

import pagews

ANSWER_WITHIN = 20.0  # seconds

delegates = pagews.DelegateTableDef()


@delegates.on("trash_empty")
async def empty_trash(page: pagews.Page, data: list[str]) -> dict[str, object]:
    question = {"text": f"Delete {len(data)} files for good?", "items": data, "seconds": ANSWER_WITHIN}
    try:
        agreed = await page.ask("confirm", question, timeout=ANSWER_WITHIN)
    except pagews.AskTimeout:
        raise pagews.DelegateError("no-answer", "Nobody answered in time, so nothing was deleted.") from None
    return {"deleted": data if agreed is True else []}
