"""one.image.*, as src/rm and src/image of OpenNebula have them."""

from pathlib import Path

from tests.opennebula.language import read_template
from tests.opennebula.pools import ERROR, LOCKED, READY, Image
from tests.opennebula.state import ACTION, ALLOCATE, INTERNAL, NO_EXISTS, RefusalError, State, User


class ImageCalls(State):
    """Images are copied when they are made: LOCKED until somebody has asked for them a few times."""

    def image_allocate(self, user: User, text: str, datastore_id: int, _: bool = True) -> int:
        attributes = read_template(text)
        if datastore_id not in self.datastores:
            raise RefusalError(NO_EXISTS, f"Error getting datastore [{datastore_id}].")
        datastore = self.datastores[datastore_id]
        if datastore.type == 1:
            what = "New images cannot be allocated in a system datastore."
            raise RefusalError(ALLOCATE, f"Error allocating a new image. {what}")
        thing = self._new(user, attributes, Image, self.images)
        path = thing.take("PATH")
        if not path:
            raise RefusalError(ALLOCATE, "Error allocating a new image. No PATH nor SOURCE in template.")
        if not Path(path).is_file():
            raise RefusalError(INTERNAL, f"Cannot determine Image SIZE. {path}: No such file or directory")
        if thing.take("TYPE").upper() not in {"", "OS", "DATABLOCK", "CDROM"}:
            raise RefusalError(ALLOCATE, "Error allocating a new image. Unknown image type")
        image = Image(
            **vars(thing),
            type=0,
            persistent=int(thing.take("PERSISTENT").upper() == "YES"),
            path=path,
            state=LOCKED,
            size_mb=max(1, Path(path).stat().st_size >> 20),
            datastore=datastore,
            polls_left=self.polls_until_ready,
        )
        for name in ("TYPE", "PERSISTENT", "SIZE", "FORMAT", "FSTYPE"):
            image.take(name)
        if not image.single("DEV_PREFIX"):
            image.put("DEV_PREFIX", "hd")
        self.images[image.id] = image
        return image.id

    def image_info(self, user: User, id_: int, _: bool = False) -> str:
        image: Image = self._get(user, self.images, Image, id_, "USE")
        if image.state == LOCKED:
            image.polls_left -= 1
            if image.polls_left < 0:
                image.state = ERROR if self.copying_fails else READY
                if self.copying_fails:
                    what = "Not allowed to copy image file"
                    image.put("ERROR", f"Sun Nov 29 12:00:00 2026 : Error copying image in the datastore: {what}")
        return image.xml()

    def image_update(self, user: User, id_: int, text: str, kind: int) -> int:
        return self._update(user, self.images, Image, id_, text, kind)

    def image_delete(self, user: User, id_: int, _: bool = False) -> int:
        image: Image = self._get(user, self.images, Image, id_, "MANAGE")
        if image.running:
            raise RefusalError(ACTION, f"Cannot delete image. There are {len(image.running)} VMs using it.")
        del self.images[id_]
        return id_
